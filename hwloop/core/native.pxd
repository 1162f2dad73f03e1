# The C half of native.py: what the compiled core calls without going through Python.

from libc.string cimport memcpy, memset

from hwloop.core.bases cimport AnyHandle
from hwloop.core.handles cimport Handle, TimerHandle


cdef extern from *:
    """
    #include <time.h>
    #include <sys/socket.h>
    #ifdef __linux__
    #include <sys/timerfd.h>
    #endif

    #ifndef HWLOOP_NATIVE
    #define HWLOOP_NATIVE

    /* Makes a handle of a type that adds no field to its base. So the base frees it, too: what Cython generates would
       tell the collector about it once more before that. */
    static CYTHON_INLINE PyObject *hwloop_new(PyObject *cls) {
        static PyObject *nothing = NULL;
        PyTypeObject *type = (PyTypeObject *)cls, *base = type->tp_base;
        if (nothing == NULL && (nothing = PyTuple_New(0)) == NULL) return NULL;
        type->tp_dealloc = base->tp_dealloc;
        return base->tp_new(type, nothing, NULL);
    }

    /* Returns 1 if the callback returned. Otherwise an exception is pending, or nothing has been called. */
    static CYTHON_INLINE int hwloop_run(PyObject *context, PyObject *callback, PyObject *args) {
        PyObject *result;
        if (!PyContext_CheckExact(context) || !PyTuple_CheckExact(args)) return 0;  /* a program's own */
        if (PyContext_Enter(context)) return 0;
        /* A callback that cancels its own handle drops the handle's references. */
        Py_INCREF(context);
        Py_INCREF(callback);
        Py_INCREF(args);
        if (PyTuple_GET_SIZE(args) == 0)
            result = PyObject_CallNoArgs(callback);
        else
            result = PyObject_Vectorcall(callback, &PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), NULL);
        Py_DECREF(args);
        Py_DECREF(callback);
        if (result == NULL) {
            PyObject *type, *value, *traceback;
            PyErr_Fetch(&type, &value, &traceback);
            if (PyContext_Exit(context))
                PyErr_Clear();
            PyErr_Restore(type, value, traceback);
        }
        else {
            Py_DECREF(result);
            if (PyContext_Exit(context)) result = NULL;
        }
        Py_DECREF(context);
        return result != NULL;
    }

    /* As Python rounds: to the nearest whole number, or to the even one of two that are as near. */
    static PyObject *hwloop_nanoseconds(double seconds) {
        double time = seconds * 1e9, rest;
        long long whole;
        if (!(time > -4503599627370496.0 && time < 4503599627370496.0))
            return PyLong_FromDouble(time);  /* from 2**52 on it is whole; or it is no number, which raises */
        whole = (long long)time;
        rest = time - (double)whole;
        if (rest > 0.5 || (rest == 0.5 && (whole & 1))) whole++;
        if (rest < -0.5 || (rest == -0.5 && (whole & 1))) whole--;
        return PyLong_FromLongLong(whole);
    }

    static CYTHON_INLINE void hwloop_nothing(void) {
    }

    static PyObject *hwloop_monotonic = NULL;

    static CYTHON_INLINE double hwloop_read(PyObject *now) {
        double time;
        PyObject *result;
        if (hwloop_monotonic == NULL) {
            PyObject *module = PyImport_ImportModule("time");
            if (module == NULL) return -1.0;
            hwloop_monotonic = PyObject_GetAttrString(module, "monotonic");
            Py_DECREF(module);
            if (hwloop_monotonic == NULL) return -1.0;
        }
        if (now == hwloop_monotonic) {
            struct timespec spec;
            clock_gettime(CLOCK_MONOTONIC, &spec);
            return (double)((long long)spec.tv_sec * 1000000000LL + spec.tv_nsec) / 1e9;  /* as time.monotonic() rounds */
        }
        result = PyObject_CallNoArgs(now);
        if (result == NULL) return -1.0;
        time = PyFloat_AsDouble(result);
        Py_DECREF(result);
        return time;
    }

    #define HWLOOP_SMALL 16384  /* bytes, copied with the interpreter lock held: that is done sooner than giving it up */

    /* The beginning of a socket as Modules/socketmodule.h has it; `is_plain` checks it with each socket. */
    typedef struct {
        PyObject_HEAD
        int fd;
    } hwloop_Socket;

    static CYTHON_INLINE int hwloop_number(PyObject *sock) {
        return ((hwloop_Socket *)sock)->fd;  /* -1 once it is closed */
    }

    static PyObject *hwloop_receive(PyObject *sock, Py_ssize_t size) {
        int fd = hwloop_number(sock);
        char small[HWLOOP_SMALL];
        PyObject *data = NULL;
        char *buffer = small;
        Py_ssize_t received;
        if (size > HWLOOP_SMALL) {
            if ((data = PyBytes_FromStringAndSize(NULL, size)) == NULL) return NULL;
            buffer = PyBytes_AS_STRING(data);
        }
        for (;;) {
            if (data == NULL)
                received = recv(fd, buffer, size, 0);
            else {
                Py_BEGIN_ALLOW_THREADS
                received = recv(fd, buffer, size, 0);
                Py_END_ALLOW_THREADS
            }
            if (received >= 0) break;
            if (errno != EINTR) {
                PyErr_SetFromErrno(PyExc_OSError);
                Py_XDECREF(data);
                return NULL;
            }
            if (PyErr_CheckSignals()) {
                Py_XDECREF(data);
                return NULL;
            }
        }
        if (data == NULL) return PyBytes_FromStringAndSize(small, received);
        if (received != size) _PyBytes_Resize(&data, received);
        return data;
    }

    static Py_ssize_t hwloop_send(PyObject *sock, PyObject *data) {
        int fd = hwloop_number(sock);
        Py_ssize_t sent;
        for (;;) {
            if (PyBytes_GET_SIZE(data) <= HWLOOP_SMALL)
                sent = send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), 0);
            else {
                Py_BEGIN_ALLOW_THREADS
                sent = send(fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), 0);
                Py_END_ALLOW_THREADS
            }
            if (sent >= 0) return sent;
            if (errno != EINTR) {
                PyErr_SetFromErrno(PyExc_OSError);
                return -1;
            }
            if (PyErr_CheckSignals()) return -1;
        }
    }

    static int hwloop_new_timerfd(void) {
        int fd = -1;
    #ifdef __linux__
        fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    #endif
        if (fd < 0) PyErr_SetFromErrno(PyExc_OSError);
        return fd;
    }

    static int hwloop_set_alarm(int fd, double when) {
    #ifdef __linux__
        long long when_ns = (long long)(when * 1e9) + 1;  /* a float of seconds may round down */
        struct itimerspec spec = {{0, 0}, {when_ns / 1000000000LL, when_ns % 1000000000LL}};
        if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0) return 0;
    #endif
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }

    /* heapq for entries that begin with a float: comparing two takes a tenth of the instructions. */
    static CYTHON_INLINE int hwloop_before(PyObject *heap, PyObject *one, PyObject *other) {
        PyObject *when = PyTuple_GET_ITEM(one, 0), *bound = PyTuple_GET_ITEM(other, 0);
        Py_ssize_t size = PyList_GET_SIZE(heap);
        int before;
        if (PyFloat_CheckExact(when) && PyFloat_CheckExact(bound) && PyFloat_AS_DOUBLE(when) != PyFloat_AS_DOUBLE(bound))
            return PyFloat_AS_DOUBLE(when) < PyFloat_AS_DOUBLE(bound);
        Py_INCREF(one);
        Py_INCREF(other);
        before = PyObject_RichCompareBool(one, other, Py_LT);  /* times that a program has made may run its code */
        Py_DECREF(one);
        Py_DECREF(other);
        if (before >= 0 && PyList_GET_SIZE(heap) != size) {
            PyErr_SetString(PyExc_RuntimeError, "the timers changed while two were compared");
            return -1;
        }
        return before;
    }

    static CYTHON_INLINE void hwloop_swap(PyObject *heap, Py_ssize_t one, Py_ssize_t other) {
        PyObject **entries = ((PyListObject *)heap)->ob_item, *entry = entries[one];
        entries[one] = entries[other];
        entries[other] = entry;
    }

    static int hwloop_rise(PyObject *heap, Py_ssize_t place) {
        while (place > 0) {
            Py_ssize_t parent = (place - 1) / 2;
            int before = hwloop_before(heap, PyList_GET_ITEM(heap, place), PyList_GET_ITEM(heap, parent));
            if (before <= 0) return before;
            hwloop_swap(heap, place, parent);
            place = parent;
        }
        return 0;
    }

    static int hwloop_heappush(PyObject *heap, PyObject *entry) {
        return PyList_Append(heap, entry) ? -1 : hwloop_rise(heap, PyList_GET_SIZE(heap) - 1);
    }

    static PyObject *hwloop_heappop(PyObject *heap) {
        Py_ssize_t size = PyList_GET_SIZE(heap) - 1, place = 0, child;
        PyObject *first;
        if (size < 0) {
            PyErr_SetString(PyExc_IndexError, "there is no timer");
            return NULL;
        }
        hwloop_swap(heap, 0, size);
        first = PyList_GET_ITEM(heap, size);
        Py_INCREF(first);
        if (PyList_SetSlice(heap, size, size + 1, NULL)) {
            Py_DECREF(first);
            return NULL;
        }
        /* To the bottom, and up again: the entry was among the last, so it mostly belongs there. */
        while ((child = 2 * place + 1) < size) {
            if (child + 1 < size) {
                int before = hwloop_before(heap, PyList_GET_ITEM(heap, child + 1), PyList_GET_ITEM(heap, child));
                if (before < 0) {
                    Py_DECREF(first);
                    return NULL;
                }
                child += before;
            }
            hwloop_swap(heap, place, child);
            place = child;
        }
        if (hwloop_rise(heap, place)) {
            Py_DECREF(first);
            return NULL;
        }
        return first;
    }
    #endif
    """
    const bint COMPILED "1"
    object copy_context "PyContext_CopyCurrent" ()
    Handle new_handle "hwloop_new" (object cls)
    TimerHandle new_timer "hwloop_new" (object cls)
    bint run_in_context "hwloop_run" (object context, object callback, object args) noexcept
    void raise_pending "hwloop_nothing" () except *
    int number_of "hwloop_number" (object sock)
    bytes receive "hwloop_receive" (object sock, Py_ssize_t size)
    Py_ssize_t send "hwloop_send" (object sock, bytes data) except -1
    int new_timerfd "hwloop_new_timerfd" () except -1
    int set_alarm "hwloop_set_alarm" (int fd, double when) except -1
    double read_clock "hwloop_read" (object now) except? -1.0
    int heappush "hwloop_heappush" (list heap, tuple entry) except -1
    object heappop "hwloop_heappop" (list heap)
    object nanoseconds "hwloop_nanoseconds" (double seconds)


cdef inline bint is_plain(sock) except -1:
    from socket import socket
    return type(sock) is socket and number_of(sock) == sock.fileno()


cdef inline object find_key(watched, int fd):
    return (<dict>watched).get(fd) if type(watched) is dict else watched.get(fd)


cdef inline tuple data_of(key):
    return (<tuple>key)[3] if isinstance(key, tuple) else key[3]  # a named tuple's own way is ten times as long


cdef inline bint is_cancelled(object handle) except -1:
    if type(handle) is Handle or isinstance(handle, AnyHandle):
        return (<AnyHandle>handle)._cancelled
    return handle._cancelled


cdef inline bint succeeds(object handle) noexcept:
    if type(handle) is Handle or isinstance(handle, AnyHandle):
        return run_in_context(
            (<AnyHandle>handle)._context, (<AnyHandle>handle)._callback, (<AnyHandle>handle)._args
        )
    return False


cdef inline tuple count_durations(values, counts):
    cdef double value, least = 0, most = 0, total = 0
    cdef unsigned long long bits
    cdef unsigned int bucket, place
    cdef unsigned int[1024] buckets, numbers  # so many are counted before `counts` learns of them
    cdef bint is_first = True
    memset(numbers, 0, sizeof(numbers))
    for value in values:
        if value <= 0:  # or -0.0
            value = 0
        if is_first:
            least = most = value
            is_first = False
        elif value < least:
            least = value
        elif value > most:
            most = value
        total += value
        memcpy(&bits, &value, sizeof(bits))
        bucket = bits >> 48
        place = bucket & 1023
        if numbers[place] and buckets[place] != bucket:
            counts[buckets[place]] += numbers[place]
            numbers[place] = 0
        buckets[place] = bucket
        numbers[place] += 1
    for place in range(1024):
        if numbers[place]:
            counts[buckets[place]] += numbers[place]
    return least, most, total
