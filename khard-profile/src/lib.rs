//! The Recording and what follows from it. Pure: knows no kernel, disk, clock or environment.
