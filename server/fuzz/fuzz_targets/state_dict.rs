//! Any bytes are a state dict or an error: no panic, no read outside the file, no allocation out of
//! proportion.
//!
//! `cargo +nightly fuzz run state_dict fuzz/corpus/state_dict tests/data -- -max_len=16384`

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_server::weights::StateDict;

fuzz_target!(|bytes: &[u8]| {
    match StateDict::from_bytes(bytes.to_vec()) {
        Ok(weights) => {
            let mut elements = 0;
            for tensor in weights.tensors() {
                // Small files may describe 64 MiB: enough of that has been asked for.
                elements += tensor.element_count();
                if elements > 1 << 16 {
                    break;
                }
                assert_eq!(tensor.to_f32().len(), tensor.element_count());
                assert_eq!(tensor.to_bytes().len(), tensor.element_count() * tensor.dtype().size());
                let _ = tensor.stats();
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control) && message.len() < 2000, "{message:?}");
        }
    }
});
