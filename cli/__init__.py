"""The `kindred` command: it runs the stand-alone system, and talks to an api over HTTP."""
