"""The drill: break the running system in every way we know, and see that it keeps its promises.

``python -m tests.drill`` (or ``make drill``) starts the whole system as ``make run`` does, on free ports in a
folder of its own, and runs case after case.  After each, the promises are checked: acknowledged
saves are there once, a verified model serves, alias and history agree, the online store equals the database,
snapshots are whole, and the flows, run again, converge.

::

    system.py      the running system, and handles on its processes
    traffic.py     clients that save and ask while something is broken, and write down what they were told
    promises.py    what must hold after every fault
    case.py        a fault, tried so many times; the table of results
    operations.py  kill a process at its n-th operation, or let that operation fail
    victim.py      the process that operations are counted in: each step of each flow; orders.py talks to it
    cases_*.py     the faults
    soak.py        the same traffic for long, and what it costs in memory, handles, threads and disk
"""
