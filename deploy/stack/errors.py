"""What can go wrong with the local stack; StackError is the root, every text names the thing and the way out.

StackError
  PortTaken      another process listens where a server was told to listen
"""


class StackError(RuntimeError):
    """The local stack cannot do what was asked; the text says what to do about it."""


class PortTaken(StackError):
    """A server could not listen because another process has its port."""
