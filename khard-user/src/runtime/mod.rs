//! Container runtimes, asked through their own APIs.
