"""`botctl`: the remediator's HTTP API for people at a terminal."""
