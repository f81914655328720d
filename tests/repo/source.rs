//! One source file, as tokens: strings and comments are not code, macro bodies are.
//!
//! Tokens rather than a syntax tree, because a path inside `html!`, `select!` or an attribute is
//! as much an import as one in a `use`, and a tree has no view into those.

use proc_macro2::{Delimiter, Group, Spacing, TokenStream, TokenTree};

/// A `mod name;` or `mod name { ... }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ModDeclaration {
    /// Inline modules around it.
    pub(crate) inside: Vec<String>,
    pub(crate) name: String,
    /// `#[path = "..."]`, as written.
    pub(crate) path: Option<String>,
    /// Whether its text is here.
    pub(crate) inline: bool,
    /// Whether it is built for tests alone.
    pub(crate) test: bool,
    pub(crate) line: usize,
}

/// A path as code writes it: its first segments, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Segments; a `use` tree gives one path per leaf, a glob ends in `*`.
    pub(crate) segments: Vec<String>,
    /// Inline modules around it, for `super`.
    pub(crate) inside: Vec<String>,
    pub(crate) test: bool,
    pub(crate) line: usize,
}

/// What a file contains.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) modules: Vec<ModDeclaration>,
    pub(crate) paths: Vec<Path>,
    /// First and last lines of what is built for tests alone.
    pub(crate) test_lines: Vec<(usize, usize)>,
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not Rust.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        // A first line `#!...` is for the kernel, not for the compiler; `#![` is an attribute.
        let text = if text.starts_with("#!") && !text.starts_with("#![") {
            text.split_once('\n').map_or("", |(_, rest)| rest)
        } else {
            text
        };
        let tokens: TokenStream = text.parse().map_err(|e| format!("not Rust: {e}"))?;
        let mut file = Self::default();
        file.scan(tokens, &Place::default());
        Ok(file)
    }

    /// Lines of code that is not for tests.
    pub(crate) fn own_lines(&self, text: &str) -> usize {
        let for_tests: usize = self.test_lines.iter().map(|(first, last)| last - first + 1).sum();
        text.lines().count().saturating_sub(for_tests)
    }

    fn scan(&mut self, tokens: TokenStream, place: &Place) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            at = self.item(&tokens, at, place);
        }
    }

    /// Reads one item, or one token, and returns where the next begins.
    fn item(&mut self, tokens: &[TokenTree], start: usize, place: &Place) -> usize {
        let mut at = start;
        let (mut test, mut path) = (false, None);
        while let Some(attribute) = outer_attribute(tokens, at) {
            test |= is_cfg_test(attribute);
            path = path.or_else(|| path_attribute(attribute));
            self.scan(attribute.stream(), place);
            at += 2;
        }
        let place = &Place { test: place.test || test, ..place.clone() };
        let end = if test { item_end(tokens, at) } else { at };
        if test && !place.in_test_item && end > at {
            let first = tokens[start].span().start().line;
            self.test_lines.push((first, tokens[end - 1].span().end().line));
        }
        let place = &Place { in_test_item: place.in_test_item || test, ..place.clone() };
        if !test {
            return if at > start { at } else { self.token(tokens, at, place, None) };
        }
        while at < end {
            at = self.token(tokens, at, place, path.as_deref());
        }
        at
    }

    fn token(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        place: &Place,
        path: Option<&str>,
    ) -> usize {
        match &tokens[at] {
            TokenTree::Group(group) => {
                self.scan(group.stream(), place);
                at + 1
            }
            TokenTree::Ident(word) if *word == "mod" => self.module(tokens, at, place, path),
            TokenTree::Ident(word) if *word == "use" => self.tree(tokens, at + 1, &[], place),
            TokenTree::Ident(word)
                if *word == "crate" && is_word(tokens, at.wrapping_sub(1), "extern") =>
            {
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                    self.push(vec![name.to_string()], at + 1, tokens, place);
                }
                at + 2
            }
            TokenTree::Ident(_) if starts_path(tokens, at) => self.path(tokens, at, place),
            _ => at + 1,
        }
    }

    fn module(
        &mut self,
        tokens: &[TokenTree],
        at: usize,
        place: &Place,
        path: Option<&str>,
    ) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return at + 1 };
        let inline = match tokens.get(at + 2) {
            Some(TokenTree::Punct(end)) if end.as_char() == ';' => None,
            Some(TokenTree::Group(body)) if body.delimiter() == Delimiter::Brace => Some(body),
            _ => return at + 1,
        };
        self.modules.push(ModDeclaration {
            inside: place.inside.clone(),
            name: name.to_string(),
            path: path.map(str::to_owned).or_else(|| path_before(tokens, at)),
            inline: inline.is_some(),
            test: place.test,
            line: name.span().start().line,
        });
        if let Some(body) = inline {
            let mut inner = place.clone();
            inner.inside.push(name.to_string());
            self.scan(body.stream(), &inner);
        }
        at + 3
    }

    /// Reads a path outside of a `use`.
    fn path(&mut self, tokens: &[TokenTree], start: usize, place: &Place) -> usize {
        let (mut segments, mut at) = (Vec::new(), start);
        while let Some(TokenTree::Ident(word)) = tokens.get(at) {
            segments.push(word.to_string());
            at += 1;
            if !is_separator(tokens, at) {
                break;
            }
            at += 2;
        }
        if segments.len() > 1 || is_separator(tokens, start + 1) {
            self.push(segments, start, tokens, place);
        }
        at.max(start + 1)
    }

    /// Reads a `use` tree: one path for each leaf.
    fn tree(
        &mut self,
        tokens: &[TokenTree],
        start: usize,
        prefix: &[String],
        place: &Place,
    ) -> usize {
        let (mut segments, mut at) = (prefix.to_vec(), start);
        let mut leaf = start;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if *word == "as" => at += 2,
                TokenTree::Ident(word) => {
                    segments.push(word.to_string());
                    leaf = at;
                    at += 1;
                }
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.tree(&inner, 0, &std::mem::take(&mut segments), place);
                    at += 1;
                }
                TokenTree::Punct(mark) if mark.as_char() == ',' => {
                    self.leaf(&mut segments, prefix, leaf, tokens, place);
                    at += 1;
                }
                TokenTree::Punct(mark) if mark.as_char() == ';' => {
                    at += 1;
                    break;
                }
                TokenTree::Punct(mark) => {
                    if mark.as_char() == '*' {
                        segments.push("*".to_owned());
                        leaf = at;
                    }
                    at += 1;
                }
                TokenTree::Literal(_) => break,
            }
        }
        self.leaf(&mut segments, prefix, leaf, tokens, place);
        at
    }

    fn leaf(
        &mut self,
        segments: &mut Vec<String>,
        prefix: &[String],
        at: usize,
        tokens: &[TokenTree],
        place: &Place,
    ) {
        let found = std::mem::replace(segments, prefix.to_vec());
        if found.len() > prefix.len() {
            self.push(found, at, tokens, place);
        }
    }

    fn push(&mut self, segments: Vec<String>, at: usize, tokens: &[TokenTree], place: &Place) {
        let line = tokens.get(at).map_or(0, |token| token.span().start().line);
        self.paths.push(Path { segments, inside: place.inside.clone(), test: place.test, line });
    }
}

/// Where the scan is.
#[derive(Clone, Debug, Default)]
struct Place {
    inside: Vec<String>,
    test: bool,
    in_test_item: bool,
}

fn outer_attribute(tokens: &[TokenTree], at: usize) -> Option<&Group> {
    match (tokens.get(at)?, tokens.get(at + 1)?) {
        (TokenTree::Punct(hash), TokenTree::Group(group))
            if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
        {
            Some(group)
        }
        _ => None,
    }
}

/// `cfg(test)`, also within `all` and `any`; not within `not`.
fn is_cfg_test(attribute: &Group) -> bool {
    let mut tokens = attribute.stream().into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(TokenTree::Ident(word)), Some(TokenTree::Group(group))) if word == "cfg" => {
            says_test(group.stream())
        }
        _ => false,
    }
}

fn says_test(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    tokens.iter().enumerate().any(|(at, token)| match token {
        TokenTree::Ident(word) => *word == "test",
        TokenTree::Group(group) => {
            !is_word(&tokens, at.wrapping_sub(1), "not") && says_test(group.stream())
        }
        _ => false,
    })
}

fn path_attribute(attribute: &Group) -> Option<String> {
    let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(word), TokenTree::Punct(_), TokenTree::Literal(text)]
            if *word == "path" =>
        {
            Some(text.to_string().trim_matches('"').to_owned())
        }
        _ => None,
    }
}

/// The `#[path]` of a `mod` that begins at `at`, behind an optional visibility.
fn path_before(tokens: &[TokenTree], at: usize) -> Option<String> {
    let mut at = at.checked_sub(1)?;
    if let TokenTree::Group(group) = &tokens[at]
        && group.delimiter() == Delimiter::Parenthesis
    {
        at = at.checked_sub(1)?;
    }
    if is_word(tokens, at, "pub") {
        at = at.checked_sub(1)?;
    }
    loop {
        let TokenTree::Group(group) = &tokens[at] else { return None };
        let found = path_attribute(group);
        if found.is_some() {
            return found;
        }
        at = at.checked_sub(2)?;
    }
}

/// The end of the item, field or arm that begins at `at`: after its `;`, its braces or its comma.
fn item_end(tokens: &[TokenTree], at: usize) -> usize {
    const ITEMS: [&str; 13] = [
        "fn", "mod", "impl", "struct", "enum", "const", "static", "type", "trait", "use", "async",
        "unsafe", "let",
    ];
    let keyword = tokens[at..].iter().find_map(|token| match token {
        TokenTree::Ident(word) if *word == "pub" => None,
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => None,
        TokenTree::Ident(word) => Some(word.to_string()),
        _ => Some(String::new()),
    });
    let keyword = keyword.unwrap_or_default();
    let is_item = ITEMS.contains(&keyword.as_str());
    for (offset, token) in tokens[at..].iter().enumerate() {
        let ends = match token {
            TokenTree::Punct(mark) => mark.as_char() == ';' || (mark.as_char() == ',' && !is_item),
            // The braces of a `use` are followed by its `;`.
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace && keyword != "use",
            _ => false,
        };
        if ends {
            return at + offset + 1;
        }
    }
    tokens.len()
}

fn is_word(tokens: &[TokenTree], at: usize, word: &str) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Ident(found)) if *found == word)
}

/// Whether `::` begins at `at`.
fn is_separator(tokens: &[TokenTree], at: usize) -> bool {
    matches!(
        (tokens.get(at), tokens.get(at + 1)),
        (Some(TokenTree::Punct(a)), Some(TokenTree::Punct(b)))
            if a.as_char() == ':' && a.spacing() == Spacing::Joint && b.as_char() == ':'
    )
}

/// Whether the word at `at` begins a path: nothing before it, or a leading `::`.
fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    let Some(previous) = at.checked_sub(1) else { return true };
    // A field or method, unless the dots are a range's.
    if is_mark(tokens, previous, '.') {
        return previous > 0 && is_mark(tokens, previous - 1, '.');
    }
    let Some(separator) = at.checked_sub(2) else { return true };
    if !is_separator(tokens, separator) {
        return true;
    }
    // `a::b` continues a path, `<T>::b` as well; `-> ::b` begins one.
    let Some(before) = separator.checked_sub(1) else { return true };
    match &tokens[before] {
        TokenTree::Ident(word) => {
            ["in", "return", "as", "mut", "dyn", "impl", "for"].iter().any(|k| word == k)
        }
        TokenTree::Punct(mark) if mark.as_char() == '>' => {
            before > 0 && (is_mark(tokens, before - 1, '-') || is_mark(tokens, before - 1, '='))
        }
        TokenTree::Group(_) => false,
        TokenTree::Punct(_) | TokenTree::Literal(_) => true,
    }
}

fn is_mark(tokens: &[TokenTree], at: usize, mark: char) -> bool {
    matches!(tokens.get(at), Some(TokenTree::Punct(found)) if found.as_char() == mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let file = File::parse(text).unwrap();
        file.paths.iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn use_trees_give_every_leaf() {
        assert_eq!(
            paths("pub(crate) use crate::{a, b::{c, d as e, *}, f::g as _};"),
            ["crate::a", "crate::b::c", "crate::b::d", "crate::b::*", "crate::f::g"]
        );
        assert_eq!(paths("use {axum, ::http::Uri as U};"), ["axum", "http::Uri"]);
        assert_eq!(paths("use serde;\nextern crate http;"), ["serde", "http"]);
    }

    #[test]
    fn code_attributes_and_macro_bodies_count_but_texts_do_not() {
        assert_eq!(
            paths(
                "// crate::no\n/// crate::no\n#[derive(kube::X)] fn f() -> ::http::Uri { \
                 g::<crate::a::B>(\"crate::no\"); html! { p { (crate::c::d()) } } x.y::<Z>() }"
            ),
            ["kube::X", "http::Uri", "g", "crate::a::B", "crate::c::d"]
        );
        assert_eq!(paths("fn f() { <T as a::B>::c::d() }"), ["a::B"]);
    }

    #[test]
    fn test_code_is_known_as_such() {
        let text = "use a::x;\n#[cfg(test)]\nuse b::{y,\n z};\n#[cfg(not(test))]\nuse c::x;\n\
            #[cfg(all(test, unix))]\nmod tests {\n    use super::d;\n}\nmod own { fn f() { super::g::h() } }\n";
        let file = File::parse(text).unwrap();
        let of: Vec<_> = file.paths.iter().map(|p| (p.segments[0].as_str(), p.test)).collect();
        assert_eq!(
            of,
            [
                ("a", false),
                ("b", true),
                ("b", true),
                ("c", false),
                ("super", true),
                ("super", false)
            ]
        );
        assert_eq!(file.test_lines, [(2, 4), (7, 10)]);
        assert_eq!(file.own_lines(text), 4);
        assert_eq!(file.paths[4].inside, ["tests"]);
        let generic = File::parse("#[cfg(test)]\nfn f<A, B>() { http::x() }\nfn g() { a::b() }");
        let of: Vec<_> = generic.unwrap().paths.iter().map(|p| p.test).collect();
        assert_eq!(of, [true, false]);
        let modules: Vec<_> =
            file.modules.iter().map(|m| (m.name.as_str(), m.inline, m.test)).collect();
        assert_eq!(modules, [("tests", true, true), ("own", true, false)]);
    }

    #[test]
    fn module_declarations_have_their_path() {
        let file = File::parse(
            "pub mod a;\n#[cfg(test)] mod b;\n#[cfg(test)]\n#[path = \"x/y.rs\"] mod c;\n\
             #[path = \"z.rs\"]\npub(crate) mod d;\n#[doc = \"e\"] mod e;",
        )
        .unwrap();
        let of: Vec<_> = file
            .modules
            .iter()
            .map(|m| (m.name.as_str(), m.test, m.path.as_deref(), m.line))
            .collect();
        assert_eq!(
            of,
            [
                ("a", false, None, 1),
                ("b", true, None, 2),
                ("c", true, Some("x/y.rs"), 4),
                ("d", false, Some("z.rs"), 6),
                ("e", false, None, 7),
            ]
        );
    }
}
