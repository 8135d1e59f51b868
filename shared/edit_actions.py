"""What may become of a picture of a dataset version, as requests and specs name it."""

EXCLUDE, QUARANTINE, RESTORE, RELABEL = "exclude", "quarantine", "restore", "relabel"
EDITS = (EXCLUDE, QUARANTINE, RESTORE, RELABEL)
# Of a finding: hide it, and leave its pictures as they are.
ACCEPT = "accept"
DONE = {
    RELABEL: "relabelled",
    EXCLUDE: "excluded",
    QUARANTINE: "put into quarantine",
}
