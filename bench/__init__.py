"""Benchmarks of speed and memory on whole processes: `python -m bench` from the root of the repository.

A benchmark is a function that returns rows; `__main__` lists the benchmarks. They are neither part of the program
nor tests: a slow machine fails nothing.
"""
