//! Builds of a folder that belongs to no task and no service: `tandem build`.

use std::path::Path;

use tandem_container::Image;
use tandem_model::{Secrets, Urn, inputs};

use super::{ImageError, Images};
use crate::provider;

impl Images {
    /// Builds what an archive holds, unless it was built before, into an image of this name.
    ///
    /// Without a name it is called as what `up` builds is: after its folder and what it was made of. Dropped, the build ends.
    pub(crate) async fn build_folder(
        &self,
        build: &inputs::Build,
        name: Option<&str>,
        lines: &dyn provider::Lines,
    ) -> Result<Image, ImageError> {
        let wanted = name.map(tandem_container::complete).transpose()?;
        let of = stand_in(&build.folder);
        self.build(&of, build, &Secrets::default(), wanted.as_deref(), lines).await
    }
}

/// What stands for the resource that the folder is not: its name is in the image's.
fn stand_in(folder: &str) -> Urn {
    let last = Path::new(folder).file_name().map(|name| name.to_string_lossy().to_lowercase());
    let last = last.unwrap_or_default();
    let words: Vec<&str> =
        last.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let of = |name: &str| format!("urn:tandem:built:by-hand:task:{name}").parse();
    of(&words.join("-")).or_else(|_| of("folder")).expect("the last of the two is a urn")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_in_for_a_resource_whatever_it_is_called() {
        for (folder, name) in [("/srv/My Site/", "my-site"), ("/", "folder"), ("/srv/..", "folder")] {
            assert_eq!(stand_in(folder).name.as_str(), name, "{folder}");
        }
    }
}
