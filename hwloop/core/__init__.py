"""The core: the event loop, its queues, timers, poller and monitor. It knows no hardware and no source."""
