//! Who is let in.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_password_is_shown_or_changed_for_a_token_as_the_registry_asks() {
    let home = Home::new();
    for doors in [Doors::Basic("ann:s3cret"), Doors::Token(Some("ann:s3cret"))] {
        let registry = Registry::serve(doors.clone()).await;
        let manifest = registry.put("v1", &here(), &[layer(10_000)]);
        let name = registry.name(":v1");
        let refused = home.refused(&name).await;
        assert_eq!(refused.code, "E0414", "{refused:?}");
        assert!(refused.help.contains(&format!("docker login {}", registry.host())), "{refused:?}");
        home.log_in(&registry, "ann:wrong");
        let refused = home.refused(&name).await;
        assert!(refused.code == "E0414" && refused.help.contains("log in anew"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("wrong"), "{refused:?}");
        home.log_in(&registry, "ann:s3cret");
        let pulled = home.pull(&name).await.unwrap_or_else(|error| panic!("{doors:?}: {error:?}"));
        assert_whole(&pulled.folder, &manifest, 3);
        // Once it is known that somebody is refused, asking again changes nothing.
        fs::remove_file(home.path().join("auth.json")).unwrap();
    }
}

#[tokio::test]
async fn who_has_no_password_gets_the_token_for_everybody() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Token(None)).await);
    registry.put("v1", &here(), &[layer(10_000)]);
    home.pull(&registry.name(":v1")).await.unwrap();
    assert!(registry.requests().contains(&"GET /token".to_owned()));
}

#[tokio::test]
async fn a_refresh_token_that_a_helper_tells_is_changed_for_a_token() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Refresh("refreshing")).await);
    registry.put("v1", &here(), &[layer(10_000)]);
    let helper = home.path().join("docker-credential-here");
    fs::write(&helper, "#!/bin/sh\necho '{\"Username\":\"<token>\",\"Secret\":\"refreshing\"}'\n").unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let text = json!({ "credHelpers": { registry.host(): "here" } });
    fs::write(home.path().join("auth.json"), text.to_string()).unwrap();
    home.pull(&registry.name(":v1")).await.unwrap();
    assert!(registry.requests().contains(&"POST /token".to_owned()));
    fs::write(&helper, "#!/bin/sh\nexit 4\n").unwrap();
    let refused = home.refused(&registry.name(":v1")).await;
    assert!(refused.code == "E0414" && refused.causes[0].contains("docker-credential-here"), "{refused:?}");
}

#[tokio::test]
async fn a_token_whose_time_is_over_is_asked_for_anew() {
    let (home, registry) = (Home::new(), Registry::serve(Doors::Token(Some("ann:s3cret"))).await);
    registry.put("v1", &here(), &[layer(200_000)]);
    home.log_in(&registry, "ann:s3cret");
    registry.fail("/blobs/", Fault::Status(401), 1);
    home.pull(&registry.name(":v1")).await.unwrap();
    let asked = registry.requests();
    assert_eq!(asked.iter().filter(|line| *line == "GET /token").count(), 2, "{asked:?}");
}
