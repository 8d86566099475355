"""Files of arrays that somebody brought, read without trusting a byte of them. Open to both columns.

NumPy's .npy and .npz, HDF5 (The Well's layout among them), NetCDF 3 and 4, Zarr 2 and 3 in a folder or a zip file; what
a file is, its first bytes say and never its name. Nothing is unpickled, nothing outside the file is opened, nothing is
allocated before the declared size has been compared with a limit and with the file, and every refusal is one
`InvalidFile` that names the value, the limit and the remedy.
"""

from nvp_agentkit.arrayfile.limits import MAX_CELLS, MIN_SIDE, bounded_memory
from nvp_agentkit.arrayfile.meaning import ROWS_DESCEND, Coordinate, Meaning
from nvp_agentkit.arrayfile.opened import OpenArray, existing, file_and_array, open_array

__all__ = [
    "MAX_CELLS",
    "MIN_SIDE",
    "ROWS_DESCEND",
    "Coordinate",
    "Meaning",
    "OpenArray",
    "bounded_memory",
    "existing",
    "file_and_array",
    "open_array",
]
