//! One accepted request and its fate.
