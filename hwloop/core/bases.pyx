"""The base classes of bases.py as extension types: see there.

Everything but the attributes is asyncio's own code, called with these objects. `isinstance` asks an object for its
`__class__` where its type says no, and so does `super` in asyncio's methods.
"""

import asyncio
import collections

cimport cython

CORE = "compiled"

_Handle = asyncio.Handle
_TimerHandle = asyncio.TimerHandle


@cython.freelist(256)
cdef class AnyHandle:
    """`asyncio.Handle` as an extension type."""

    @property
    def __class__(self):
        return _Handle

    def __init__(self, callback, args, loop, context=None):
        _Handle.__init__(self, callback, args, loop, context)

    def __repr__(self):
        return _Handle.__repr__(self)

    def _repr_info(self):
        info = _Handle._repr_info(self)
        info[0] = type(self).__name__
        return info

    def get_context(self):
        return self._context

    def cancel(self):
        _Handle.cancel(self)

    def cancelled(self):
        return self._cancelled

    def _run(self):
        _Handle._run(self)


cdef class AnyTimerHandle(AnyHandle):
    """`asyncio.TimerHandle` as an extension type."""

    @property
    def __class__(self):
        return _TimerHandle

    def _repr_info(self):
        info = _TimerHandle._repr_info(self)
        info[0] = type(self).__name__
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return _TimerHandle.__lt__(self, other)

    def __le__(self, other):
        return _TimerHandle.__le__(self, other)

    def __gt__(self, other):
        return _TimerHandle.__gt__(self, other)

    def __ge__(self, other):
        return _TimerHandle.__ge__(self, other)

    def __eq__(self, other):
        return _TimerHandle.__eq__(self, other)

    def when(self):
        return self._when


cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    #endif

    static PyObject *hwloop_epoll_wait(int fd, int timeout, int most) {
    #ifdef __linux__
        struct epoll_event events[64];
        int count, each;
        PyObject *found;
        if (most > 64) most = 64;
        if (PyErr_CheckSignals()) return NULL;  /* for callbacks that are all C functions: only bytecode looks for signals */
        for (;;) {
            if (timeout == 0)
                count = epoll_wait(fd, events, most, 0);
            else {
                Py_BEGIN_ALLOW_THREADS
                count = epoll_wait(fd, events, most, timeout);
                Py_END_ALLOW_THREADS
            }
            if (count >= 0) break;
            if (errno != EINTR) return PyErr_SetFromErrno(PyExc_OSError);
            if (PyErr_CheckSignals()) return NULL;
        }
        if ((found = PyList_New(count)) == NULL) return NULL;
        for (each = 0; each < count; each++) {
            PyObject *number = PyLong_FromLong(events[each].data.fd), *mask = PyLong_FromLong(events[each].events);
            PyObject *pair = number == NULL || mask == NULL ? NULL : PyTuple_Pack(2, number, mask);
            Py_XDECREF(number);
            Py_XDECREF(mask);
            if (pair == NULL) {
                Py_DECREF(found);
                return NULL;
            }
            PyList_SET_ITEM(found, each, pair);
        }
        return found;
    #else
        PyErr_SetString(PyExc_OSError, "this system has no epoll");
        return NULL;
    #endif
    }

    static PyCFunction hwloop_append = NULL, hwloop_popleft = NULL;

    static PyCFunction hwloop_function(PyObject *type, const char *name, int flags) {
        PyCFunction function = NULL;
        PyObject *method = PyObject_GetAttrString(type, name);
        if (method == NULL) return NULL;
        if (Py_TYPE(method) == &PyMethodDescr_Type && ((PyMethodDescrObject *)method)->d_method->ml_flags == flags)
            function = ((PyMethodDescrObject *)method)->d_method->ml_meth;
        else
            PyErr_Format(PyExc_ImportError, "deque.%s is not what hwloop was compiled for", name);
        Py_DECREF(method);
        return function;
    }

    static int hwloop_find_functions(PyObject *type) {
        hwloop_append = hwloop_function(type, "append", METH_O);
        hwloop_popleft = hwloop_append == NULL ? NULL : hwloop_function(type, "popleft", METH_NOARGS);
        return hwloop_popleft == NULL ? -1 : 0;
    }
    """
    list hwloop_epoll_wait(int fd, int timeout, int most)
    int hwloop_find_functions(object cls) except -1
    object hwloop_append(object queue, object handle)
    object hwloop_popleft(object queue, void *nothing)


hwloop_find_functions(collections.deque)


@cython.final
cdef class HandleQueue(deque):
    """`collections.deque`, with the two methods that are called for each handle as C functions."""

    cpdef append(self, handle):
        hwloop_append(self, handle)

    cpdef popleft(self):
        return hwloop_popleft(self, NULL)


@cython.final
cdef class EpollPoll:
    """`select.epoll.poll` of a set, for a timeout of 0 or -1."""

    cpdef list poll(self, int timeout=-1, int maxevents=64):
        return hwloop_epoll_wait(self._fd, timeout, maxevents)


def waiting_half(epoll):
    """Return the half of an epoll set that waits."""
    cdef EpollPoll half = EpollPoll.__new__(EpollPoll)
    half._fd = epoll.fileno()
    return half


cdef class LoopBase:
    """The attributes of asyncio's loop that the dispatch function reads."""
