"""The one exception that is shown to a user without a traceback."""


class UserError(Exception):
    """A mistake the user can mend: what is wrong, where (file and key or line), and the remedy.

    Several mistakes found together stand on one line each.
    """
