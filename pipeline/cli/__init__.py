"""The command line: options from the job models, errors as sentences, exit codes as documented."""
