"""Tests of Provisor. A package by name, since a library that the tests use installs one of the same name."""
