//! URL paths as Go's `net/http.ServeMux` sees them. Pure.

/// The shortest path that means the same: no empty, `.` or `..` parts; a final slash is kept.
/// Begins with one slash whatever it is given.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && !clean.ends_with('/') {
        clean.push('/');
    }
    clean
}

/// `text` for use within an HTML attribute, as Go's `html.EscapeString` writes it.
pub(super) fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        let cases = [
            ("", "/"),
            ("*", "/*"),
            ("/", "/"),
            ("//", "/"),
            ("/health", "/health"),
            ("/health/", "/health/"),
            ("//health", "/health"),
            ("/a/./b/../health", "/a/health"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("//evil.example/..//x/", "/x/"),
            ("/...", "/..."),
        ];
        for (path, expected) in cases {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn html() {
        assert_eq!(escape_html("/a?b=\"<'&'>\""), "/a?b=&#34;&lt;&#39;&amp;&#39;&gt;&#34;");
    }

    proptest! {
        #[test]
        fn cleaning_ends_and_leaves_this_host(path in "[/.a]{0,20}") {
            let once = clean(&path);
            prop_assert_eq!(clean(&once), once.clone());
            prop_assert!(once.starts_with('/') && !once.starts_with("//"), "{}", once);
        }
    }
}
