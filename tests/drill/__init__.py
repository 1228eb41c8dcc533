"""The drill: break the running system in every way we know, and check that it keeps its promises.

``make drill`` starts the whole system as ``make run`` does, on free ports in a folder of its own, and tries
fault after fault while clients save and ask.  After each, `promises.check_all` must hold.

::

    system.py       the running system, and handles on its processes
    traffic.py      clients that save and ask while something is broken
    promises.py     what must hold after every fault
    case.py         a fault, tried so many times; a step of a flow, stopped at each of its operations
    services.py     faults of Redis, messages, the web app, MLflow and Prefect
    data.py         faults of the database, disks and clocks; races; steps of flows that are killed
    victim.py       the process that operations are counted in
    soak.py         the same traffic for long, and what it costs in memory, handles, threads and disk
    report.py       docs/drill.md
"""
