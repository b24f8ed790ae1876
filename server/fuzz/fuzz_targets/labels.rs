//! Any bytes are labels or an error. Labels are names, distinct except the gaps, and match a model or are refused.

#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use ssd_detector::labels::{GAP, Labels, VOC};
use ssd_fuzz::{assert_fit_for_a_log, bounded};

fuzz_target!(|bytes: &[u8]| {
    let labels = match bounded(bytes.len(), || Labels::parse(bytes)) {
        Ok(labels) => labels,
        Err(error) => return assert_fit_for_a_log(&error.to_string()),
    };
    let names = labels.names();
    let classes: Vec<_> = names.iter().filter(|name| *name != GAP).collect();
    assert_eq!(classes.iter().collect::<HashSet<_>>().len(), classes.len());
    assert!(!classes.is_empty() && names.len() <= bytes.len() + 10_000);
    for name in names {
        assert!(
            !name.is_empty() && !name.contains(char::is_control),
            "{name:?}"
        );
    }
    let voc = VOC.map(str::to_owned);
    for (classes, known) in [
        (names.len(), None),
        (names.len() + 1, None),
        (classes.len(), None),
        (20, Some(&voc[..])),
    ] {
        match bounded(bytes.len(), || labels.assign(classes, known)) {
            Ok((assigned, _)) => assert_eq!(assigned.len(), classes),
            Err(error) => assert_fit_for_a_log(&error.to_string()),
        }
    }
});
