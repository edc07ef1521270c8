"""The jobs as Python functions: phases in order, without Prefect and without a command line."""
