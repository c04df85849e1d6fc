//! Headers of requests, such as `authorization` and the name of a tenant.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use hyper::{
    HeaderMap,
    header::{AUTHORIZATION, HeaderName, HeaderValue},
};

use super::settings::pairs;
use crate::{
    credentials::{RotatedFile, Secret},
    util::messages::{info, sentence},
};

/// Headers that the protocol sets.
const RESERVED: [&str; 6] = ["content-encoding", "content-length", "content-type", "grpc-encoding", "host", "te"];

/// Where the headers come from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderOrigin {
    /// There are none.
    None,
    /// A file of lines `Name: value`.
    File(PathBuf),
    /// A file of a token for `authorization: Bearer TOKEN`.
    TokenFile(PathBuf),
    /// A variable of the environment, with its value.
    Variable(String, Secret),
}

/// How the text of a file becomes headers.
#[derive(Clone, Copy, Debug)]
enum FileForm {
    Lines,
    Token,
}

/// Headers of requests, read again where their file has changed.
#[derive(Debug)]
pub(super) struct RequestHeaders {
    file: Option<(RotatedFile, FileForm)>,
    headers: HeaderMap,
}

impl RequestHeaders {
    /// Reads the headers. Blocks on the file system. Fails where the file cannot be read, or has another form.
    pub(super) fn read(origin: HeaderOrigin) -> Result<Self> {
        let (path, form) = match origin {
            HeaderOrigin::None => return Ok(Self { file: None, headers: HeaderMap::new() }),
            HeaderOrigin::Variable(name, text) => {
                let found = pairs(text.reveal(), &name).map_err(|error| anyhow!("{error}"))?;
                let mut headers = HeaderMap::new();
                for (key, value) in found {
                    add(&mut headers, &key, &value).with_context(|| format!("{name} cannot be used"))?;
                }
                return Ok(Self { file: None, headers });
            }
            HeaderOrigin::File(path) => (path, FileForm::Lines),
            HeaderOrigin::TokenFile(path) => (path, FileForm::Token),
        };
        let file = RotatedFile::read(&path)?;
        let headers = parse(&file, form)?;
        Ok(Self { file: Some((file, form)), headers })
    }

    /// The headers, from the file as it is now. A file that has become unusable is reported, and the earlier headers stay.
    pub(super) fn current(&mut self) -> &HeaderMap {
        if let Some((file, form)) = &mut self.file
            && file.refresh()
        {
            Self::update(&mut self.headers, file, *form);
        }
        &self.headers
    }

    /// Reads the file again where the collector has refused the headers. Whether they are others now.
    pub(super) fn renew(&mut self) -> bool {
        let Some((file, form)) = &mut self.file else { return false };
        file.refresh_now() && Self::update(&mut self.headers, file, *form)
    }

    fn update(headers: &mut HeaderMap, file: &RotatedFile, form: FileForm) -> bool {
        match parse(file, form) {
            Ok(new) => {
                *headers = new;
                true
            }
            Err(error) => {
                info(format_args!("{}; the earlier headers stay in use", sentence(&error)));
                false
            }
        }
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.headers.is_empty()
    }

    /// A text of the collector without the values of these headers: it may repeat what it has received.
    pub(super) fn redact(&self, text: &str) -> String {
        let values = self.headers.values().filter_map(|value| value.to_str().ok());
        // The token without its scheme, too. What is shorter than four characters would redact parts of words.
        let parts = values.flat_map(|value| [value, value.rsplit(' ').next().unwrap_or_default()]);
        parts.filter(|part| part.len() >= 4).fold(text.to_owned(), |text, part| text.replace(part, "…"))
    }
}

fn parse(file: &RotatedFile, form: FileForm) -> Result<HeaderMap> {
    let (text, path) = (file.text().reveal(), file.path().display());
    let mut headers = HeaderMap::new();
    match form {
        FileForm::Token => {
            let token = text.trim();
            if token.is_empty() || token.contains(char::is_whitespace) {
                return Err(anyhow!("{path} has no token: a token is one word, without 'Bearer'"));
            }
            add(&mut headers, AUTHORIZATION.as_str(), &format!("Bearer {token}"))
                .with_context(|| format!("{path} cannot be used"))?;
        }
        FileForm::Lines => {
            for (number, line) in (1..).zip(text.lines().map(str::trim)) {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let place = || format!("{path}, line {number}");
                let (name, value) =
                    line.split_once(':').with_context(|| format!("{}: expected 'Name: value'", place()))?;
                add(&mut headers, name.trim(), value.trim()).with_context(place)?;
            }
        }
    }
    Ok(headers)
}

/// Adds a header. The error quotes neither name nor value: a line may be in the wrong order.
fn add(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err(anyhow!("a header's name cannot be used"));
    };
    if RESERVED.contains(&name.as_str()) {
        return Err(anyhow!("the header {name} is the protocol's own"));
    }
    let Ok(mut value) = HeaderValue::from_str(value) else {
        return Err(anyhow!("the value of {name} cannot be used"));
    };
    // Not in the tables of HTTP/2's compression, and not in `Debug` output.
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of_file(text: &str, origin: fn(PathBuf) -> HeaderOrigin) -> Result<RequestHeaders> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        RequestHeaders::read(origin(file.path().to_owned()))
    }

    #[test]
    fn reads_each_form() {
        let lines = of_file("# tenant\nX-Scope-OrgID: shop\nauthorization: Basic YTpi\n", HeaderOrigin::File).unwrap();
        assert_eq!(
            (&lines.headers["x-scope-orgid"], &lines.headers["authorization"]),
            (&"shop".parse().unwrap(), &"Basic YTpi".parse().unwrap())
        );
        let token = of_file("abc.def\n", HeaderOrigin::TokenFile).unwrap();
        assert_eq!(token.headers["authorization"], "Bearer abc.def");
        assert_eq!(token.redact("no access for Bearer abc.def, abc.def"), "no access for …, …");
        let variable = HeaderOrigin::Variable("V".to_owned(), Secret::from("a=b%20c,x=y".to_owned()));
        assert_eq!(RequestHeaders::read(variable).unwrap().headers["a"], "b c");
    }

    #[test]
    fn errors_and_debug_output_have_no_secret() {
        for text in ["authorization Bearer hunter2", "a\u{e9}: hunter2", "a: hunter2\u{1}", "host: hunter2"] {
            let error = format!("{:#}", of_file(text, HeaderOrigin::File).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = format!("{:#}", of_file("Bearer hunter2", HeaderOrigin::TokenFile).unwrap_err());
        assert!(!error.contains("hunter2"), "{error}");
        let headers = of_file("a: hunter2", HeaderOrigin::File).unwrap();
        assert!(!format!("{headers:?}").contains("hunter2"), "{headers:?}");
    }
}
