"""How the loops over pixels are compiled: on first use, then kept beside the source or where NUMBA_CACHE_DIR says."""

from numba import njit

# Sums may be taken in any order, but infinities and what is no number stay what they are: places far outside a picture.
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "arcp", "nsz"})
