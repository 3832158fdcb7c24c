//! How the services are put together. Services never import each other; what one needs of another it names as a trait,
//! and this is where the traits are answered.

mod environment;

pub(crate) use environment::Environments;
