//! The address of etcd, and the credentials.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// The default prefix of all keys.
const PREFIX: &str = "/snowglobe";
/// Longest prefix in bytes. It is a part of every key, so a long one has no use.
const PREFIX_BYTES_MAX: usize = 256;
/// The limit of addresses. No etcd cluster has as many members.
const ENDPOINTS_MAX: usize = 32;
/// etcd's default port.
const PORT: u16 = 2379;

/// The options of the connection to an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The members of one etcd cluster, each as `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// The prefix of all keys, `/snowglobe` for instance, without a slash at the end.
    pub prefix: String,
    /// The TLS files; `None` for plain text.
    pub tls: Option<Tls>,
    /// The user, if etcd has authentication.
    pub user: Option<User>,
    /// A file that keeps the last revision, so that no revision is used twice after etcd's data was restored from a
    /// backup.
    pub mark: Option<PathBuf>,
    /// How long to wait for an etcd that cannot be reached.
    pub patience: Duration,
}

/// Paths of PEM files. They are read again for every connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The authorities that may have signed etcd's certificate; `None` for those that this machine trusts.
    pub authority: Option<PathBuf>,
    /// A client certificate and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password. It is never shown.
    pub password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Options {
    /// The addresses as URLs, for messages.
    pub(super) fn urls(&self) -> String {
        self.endpoints.iter().map(|endpoint| self.url(endpoint)).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn url(&self, endpoint: &str) -> String {
        format!("{}://{endpoint}", if self.tls.is_some() { "https" } else { "http" })
    }
}

/// The location as it was given. It contains no password.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        write!(f, "{scheme}://{}{}", self.endpoints.join(","), self.prefix)
    }
}

/// `etcd://HOST:PORT[,HOST:PORT...][/PREFIX]`, or `etcds://` for TLS.
impl FromStr for Options {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("etcd://HOST:PORT is expected")?;
        let tls = match scheme {
            "etcd" => None,
            "etcds" => Some(Tls::default()),
            other => return Err(format!("{other}:// is no location of etcd: etcd:// or etcds://")),
        };
        let (hosts, prefix) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if hosts.contains('@') {
            let text = "no user or password may stand in the location, where others could see it: give --etcd-user, and \
                        the password in --etcd-password-file or the environment variable SNOWGLOBE_ETCD_PASSWORD";
            return Err(text.to_owned());
        }
        let endpoints = hosts.split(',').map(endpoint).collect::<Result<Vec<_>, _>>()?;
        if endpoints.len() > ENDPOINTS_MAX {
            return Err(format!("{} endpoints, at most {ENDPOINTS_MAX}", endpoints.len()));
        }
        let prefix = match prefix.trim_end_matches('/') {
            "" => PREFIX,
            prefix => prefix,
        };
        if prefix.len() > PREFIX_BYTES_MAX || prefix.chars().any(char::is_control) {
            return Err(format!(
                "a prefix has at most {PREFIX_BYTES_MAX} bytes and no control characters"
            ));
        }
        let (prefix, patience) = (prefix.to_owned(), Duration::ZERO);
        Ok(Self { endpoints, prefix, tls, user: None, mark: None, patience })
    }
}

/// `HOST:PORT` of `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`.
fn endpoint(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not HOST:PORT");
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_number| wrong())?)
        }
        _ => (text, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(allowed)
        }
    };
    if valid && port != 0 { Ok(format!("{host}:{port}")) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let cases = [
            ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379/snowglobe"),
            ("etcd://a", "etcd://a:2379/snowglobe"),
            ("etcd://a:1,b:2,[::1]:3,[::2]", "etcd://a:1,b:2,[::1]:3,[::2]:2379/snowglobe"),
            ("etcds://etcd.example.com:2379/", "etcds://etcd.example.com:2379/snowglobe"),
            ("etcd://a:1/teams/blue/", "etcd://a:1/teams/blue"),
        ];
        for (given, expected) in cases {
            let options: Options = given.parse().unwrap();
            assert_eq!(options.to_string(), expected);
            assert_eq!(options.tls.is_some(), given.starts_with("etcds"));
        }
        for wrong in [
            "etcd://",
            "etcd:a",
            "http://a:1",
            "etcd://a:x",
            "etcd://a:0",
            "etcd://a,,b",
            "etcd://[1]",
        ] {
            assert!(wrong.parse::<Options>().is_err(), "{wrong}");
        }
        let refused = "etcd://root:secret@a:1".parse::<Options>().unwrap_err();
        assert!(refused.contains("--etcd-user") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let user = User { name: "root".into(), password: "secret".into() };
        assert!(!format!("{user:?}").contains("secret"));
    }
}
