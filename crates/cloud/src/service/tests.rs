//! Services as a whole, with real containers.
