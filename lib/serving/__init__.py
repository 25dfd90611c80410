"""From a finished run to a name for a picture: command line, page, HTTP."""
