//! What was done so that something runs where it was not made for, told beside an answer of the service's.

use std::fmt::Write;

/// Header of GetAgentRuntime's answers that has them, from the emulator alone. Clients of the service do not look at
/// it; a member of the answer would be one that the service does not have.
pub const NOTICES_HEADER: &str = "agentcore-notices";

/// The sentences as JSON in printable ASCII, which is what a header can carry.
pub fn write_notices(notices: &[String]) -> String {
    let json = serde_json::Value::from(notices.to_vec()).to_string();
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            text.push(c);
        } else {
            // Outside strings there are none of these, and inside this is JSON's own way to write them.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

/// The sentences of such a header; of anything else none.
pub fn read_notices(header: &str) -> Vec<String> {
    serde_json::from_str(header).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_sentences_travel_in_a_header(notices in proptest::collection::vec(any::<String>(), 0..4)) {
            let header = write_notices(&notices);
            prop_assert!(header.bytes().all(|b| (b' '..=b'~').contains(&b)), "{header}");
            prop_assert_eq!(read_notices(&header), notices);
        }

        #[test]
        fn any_header_is_read_or_passed_over(header in any::<String>()) {
            let notices = read_notices(&header);
            prop_assert!(notices.is_empty() || header.trim_start().starts_with('['));
        }
    }
}
