//! Whole-product tests: they run the built `tandem` as a user would, with stock clients. See `tests/e2e/main.rs`.
