"""Whether this machine can do what is asked of it: the checks of ``tsjt doctor``."""
