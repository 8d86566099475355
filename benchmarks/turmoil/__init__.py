"""A real stack with a compute stub of known cost, while processes are killed, stopped and cut off by a schedule.

child, worker   the product's workers, whose compute child computes nothing and says what that cost
schedule        what happens when, and what is asked for when: drawn from the seed
stack           the processes, and doing to them what the schedule says
asker           publishes, with copies and junk, and keeps what was accepted
checker         what must be so at the end, told from the bare stores
quorums         what must be so of votes and certificates; found: what both write down
"""
