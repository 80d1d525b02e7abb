"""Speed and memory, measured on whole processes: `python -m bench` from the root of the repository.

A benchmark is a function that returns rows; `__main__` lists them. Nothing here is part of the program, and
nothing here is a test: a slow machine is no failure.
"""
