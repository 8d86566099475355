"""Histories of consumers, ledger and tally: real code, a virtual clock, a modelled store, all chance from one seed.

loop       processes as event loops over one virtual clock: killed, frozen, woken
values     what a key of the store can hold
store      the store: the commands that are used, by name
scripts    the product's own Lua functions, run against it
client     a redis-py client whose other end is that store; connections that fail
doors      where the real code gets time and chance from, in one place
plan       what happens in a history, drawn from its seed
asked      the events of its messages
work       what workers do in it: a stub of known cost inside the real joule window
history    a plan, played
checker    what must be so after it, told from the store and a record of what was applied to it
promises   and of what is urgent, taken back or asked again
shrink     the least plan that still goes wrong
"""
