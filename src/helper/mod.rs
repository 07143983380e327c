//! What runs inside a session, and the protocol the engines speak to it.
