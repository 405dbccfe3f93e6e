//! No text makes the parser panic, and printing a URL loses nothing.

use proptest::prelude::*;

use crate::config::{Url, file, gates, parse, parse_cluster, settings::Settings, table::FLAGS};

proptest! {
    #[test]
    fn arguments(arguments in prop::collection::vec("-{0,3}(name|pre-vote|[a-z-]{0,9})=?\\PC{0,9}", 0..5), variable in "ETCD_[A-Z_]{0,9}", value in any::<String>()) {
        let _ = parse(arguments.into_iter().map(Into::into), [(variable.into(), value.into())]);
    }

    #[test]
    fn values(text in "\\PC*|[-+0-9.xobhmsnµ]{0,40}|(http|unix)://[\\[\\]a-f0-9.:%]{0,20}(/|\\?)?") {
        for flag in FLAGS {
            let _ = flag.kind.parse(&text);
        }
        let _ = gates::parse(&text);
        let _ = parse_cluster(&text);
    }

    #[test]
    fn urls_read_back_as_printed(text in "(http|HTTPS|unix)://[\\[\\]a-f0-9.:%]{1,12}:[0-9]{1,5}") {
        if let Ok(url) = Url::parse(&text) {
            prop_assert_eq!(Url::parse(url.as_str()), Ok(url.clone()));
            prop_assert!(url.is_unix() || url.port().is_some(), "{}", url);
        }
    }

    #[test]
    fn files(text in "([a-z-]{1,9}: ?\\PC{0,9}\n?){0,5}|[\\[\\]{}:,&*!|>'\"a \n-]{0,60}") {
        let _ = file::apply(&text, &mut Settings::new(), &mut Vec::new());
    }
}
