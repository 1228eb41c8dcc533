"""The drill: break the running system in every way we know, and check that it keeps its promises.

``make drill`` starts the whole system as ``make run`` does, on free ports in a folder of its own, and tries
fault after fault while clients save and ask.  After each, `promises.check_all` must hold.
"""
