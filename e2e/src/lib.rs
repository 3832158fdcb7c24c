//! Whole-product tests with stock clients.
