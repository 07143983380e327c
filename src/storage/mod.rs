//! Session storage: the port and its carriers.
