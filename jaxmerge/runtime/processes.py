"""How a process is told of the others that run the same command: by its environment. Imports nothing heavy.

`jaxmerge launch` sets it; a scheduler of one's own may as well.
"""

# Address of process 0, `host:port`; `auto` where jax finds the processes by itself (Cloud TPU, SLURM, Open MPI).
COORDINATOR = "JAXMERGE_COORDINATOR"
AUTO = "auto"
# How many processes there are, and which of them this is, from 0.
PROCESSES = "JAXMERGE_PROCESSES"
PROCESS = "JAXMERGE_PROCESS"

NAMES = (COORDINATOR, PROCESSES, PROCESS)
