use std::fs;

use tandem_model::Explain;

use super::{BindError, Bound};
use crate::home::Home;

#[tokio::test]
async fn the_address_of_the_first_start_stays() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let first = Bound::bind(&home).await.unwrap();
    let endpoint = first.endpoint();
    assert!(endpoint.url().starts_with("http://127.0.0.1:"));
    drop(first);
    assert_eq!(Bound::bind(&home).await.unwrap().endpoint(), endpoint);
}

#[tokio::test]
async fn an_address_that_is_taken_is_not_left_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    let squatter = Bound::bind(&home).await.unwrap();
    let error = Bound::bind(&home).await.unwrap_err();
    assert!(matches!(&error, BindError::Taken { address, .. } if *address == squatter.endpoint().address()));
    assert!(error.help().contains(&squatter.endpoint().address().port().to_string()));
}

#[tokio::test]
async fn a_damaged_record_of_the_address_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(folder.path());
    fs::write(home.address(), "somewhere").unwrap();
    assert!(matches!(Bound::bind(&home).await, Err(BindError::Damaged { path }) if path == home.address()));
}
