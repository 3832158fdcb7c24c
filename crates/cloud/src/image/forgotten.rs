//! Images that go.

use tandem_store::Batch;

use super::{facts::made_key, image_key};

/// Takes away what is known of an image beside itself. What was built is looked for in the image store anyway.
pub(crate) fn forgetting(digest: &str) -> Batch {
    let mut batch = Batch::default();
    batch.delete(image_key(digest)).delete(made_key(digest)).frees();
    batch
}
