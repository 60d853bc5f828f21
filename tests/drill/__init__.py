"""The fault drill: a training that is struck again and again must come out as one that was not."""
