"""The commands: those of the library and its stores, and ``vroom``, which starts every part."""
