"""Programs as services: environments, units, installation and removal. `hwloop service` and `hwloop unit` use it.

Nothing else imports this package: a program that runs needs none of it.
"""
