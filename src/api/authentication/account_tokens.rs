//! Tokens of ServiceAccounts: those that TokenRequest issues, which end with their time, their account or the object
//! that they are bound to; and those in Secrets of type `kubernetes.io/service-account-token`, which end with either.
//! The claims are kube-apiserver's.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    api::authentication::{CREDENTIAL_ID, Caller},
    model::{Kind, Object, ObjectKey, kind},
    pki::jwt::SigningKey,
    registry::{Registry, View},
};

/// Issuer of the tokens in Secrets, as ever.
const SECRET_ISSUER: &str = "kubernetes/serviceaccount";
/// Claims of those begin with it.
const SECRET_CLAIM: &str = "kubernetes.io/serviceaccount/";
/// Everything about the cluster is in this claim of all others.
const CLAIM: &str = "kubernetes.io";
const USER_PREFIX: &str = "system:serviceaccount:";
const GROUP: &str = "system:serviceaccounts";
/// The key of a Secret's token.
const TOKEN_KEY: &str = "token";
/// A bound object may be in deletion for this long before its tokens end, as kube-apiserver has it.
const DELETION_LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Clocks of one machine agree; a token of another start of it may be this much ahead.
const CLOCK_LEEWAY: SignedDuration = SignedDuration::from_secs(60);

const INVALID: &str = "invalid bearer token";
const ACCOUNT_GONE: &str = "the service account of the token does not exist any more";
const BOUND_GONE: &str = "the object that the token is bound to does not exist any more";

/// Issues and verifies.
pub struct AccountTokens {
    key: Arc<SigningKey>,
    registry: Arc<Registry>,
    issuer: String,
}

/// What a token is issued for.
pub(crate) struct Grant<'a> {
    pub(crate) account: &'a Object,
    pub(crate) audiences: &'a [String],
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
    /// A Pod, Node or Secret that must be there as long as the token shall count.
    pub(crate) bound: Option<&'a Object>,
    /// The node of the pod in `bound`.
    pub(crate) node: Option<&'a Object>,
}

impl AccountTokens {
    /// `domain` is the cluster's; the issuer is named after it, as kubeadm does.
    pub fn new(key: Arc<SigningKey>, registry: Arc<Registry>, domain: &str) -> Self {
        Self { key, registry, issuer: format!("https://kubernetes.default.svc.{domain}") }
    }

    /// The name of this cluster in tokens, and the audience of those that are meant for its API.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// For `/openid/v1/jwks`.
    pub(crate) fn key_set(&self) -> Value {
        self.key.key_set()
    }

    /// A signed token.
    pub(crate) fn issue(&self, grant: &Grant<'_>) -> String {
        let account = grant.account;
        let reference =
            |object: &Object| json!({"name": object.key.name, "uid": object.metadata.uid});
        let mut cluster = json!({"namespace": account.key.namespace,
            "serviceaccount": reference(account)});
        for object in grant.bound.iter().chain(&grant.node) {
            cluster[&*object.key.kind.singular] = reference(object);
        }
        self.key.sign(&json!({
            "aud": grant.audiences,
            "exp": grant.to.as_second(),
            "iat": grant.from.as_second(),
            "iss": self.issuer,
            "jti": uuid::Uuid::new_v4().to_string(),
            CLAIM: cluster,
            "nbf": grant.from.as_second(),
            "sub": user(&account.key),
        }))
    }

    /// Whom a token names, and which of these audiences it is meant for.
    pub(crate) fn verify(
        &self,
        token: &str,
        audiences: &[String],
    ) -> Result<(Caller, Vec<String>), &'static str> {
        let claims = self.key.verify(token).ok_or(INVALID)?;
        let view = self.registry.view();
        if claims["iss"] == SECRET_ISSUER {
            let own = audiences.iter().filter(|audience| **audience == self.issuer).cloned();
            let caller = of_secret(&view, token, &claims)?;
            return for_some(caller, own.collect());
        }
        if claims["iss"] != self.issuer.as_str() {
            return Err(INVALID);
        }
        let now = Timestamp::now();
        let time = |claim: &str| Timestamp::from_second(claims[claim].as_i64()?).ok();
        if now >= time("exp").ok_or(INVALID)? {
            return Err("the token has expired");
        }
        if time("nbf").ok_or(INVALID)?.duration_since(now) > CLOCK_LEEWAY {
            return Err("the token is not valid yet");
        }
        let meant = |audience: &&String| {
            claims["aud"].as_array().is_some_and(|list| list.iter().any(|one| *one == **audience))
        };
        let audiences = audiences.iter().filter(meant).cloned().collect();
        for_some(of_claims(&view, &claims, now)?, audiences)
    }
}

fn for_some(caller: Caller, audiences: Vec<String>) -> Result<(Caller, Vec<String>), &'static str> {
    if audiences.is_empty() {
        return Err("the token is not meant for these audiences");
    }
    Ok((caller, audiences))
}

/// The token in a Secret of this account.
pub fn secret_token(key: &SigningKey, secret: &ObjectKey, account: &Object) -> String {
    let claim = |name: &str| format!("{SECRET_CLAIM}{name}");
    key.sign(&json!({
        "iss": SECRET_ISSUER,
        claim("namespace"): secret.namespace,
        claim("secret.name"): secret.name,
        claim("service-account.name"): account.key.name,
        claim("service-account.uid"): account.metadata.uid,
        "sub": user(&account.key),
    }))
}

/// The user name of an account.
fn user(account: &ObjectKey) -> String {
    format!("{USER_PREFIX}{}:{}", account.namespace, account.name)
}

/// Namespace and name of the account that has this user name.
pub(crate) fn account_of_user(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(USER_PREFIX)?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// The groups of a namespace's accounts.
pub(crate) fn account_groups(namespace: &str) -> Vec<String> {
    vec![GROUP.to_owned(), format!("{GROUP}:{namespace}")]
}

fn of_claims(view: &View, claims: &Value, now: Timestamp) -> Result<Caller, &'static str> {
    let cluster = &claims[CLAIM];
    let namespace = cluster["namespace"].as_str().ok_or(INVALID)?;
    let living = |kind: &Kind, reference: &Value| {
        let namespace = if kind.namespaced { namespace } else { "" };
        let name = reference["name"].as_str().unwrap_or_default();
        let object = view.get(&ObjectKey::new(kind, namespace, name))?;
        let deleted = object.metadata.deletion_timestamp.as_deref();
        let deleted = deleted.and_then(|at| at.parse::<Timestamp>().ok());
        let lives = deleted.is_none_or(|at| now.duration_since(at) < DELETION_LEEWAY);
        (lives && object.metadata.uid == reference["uid"].as_str().unwrap_or_default())
            .then(|| object.clone())
    };
    let account = living(&kind::SERVICE_ACCOUNT, &cluster["serviceaccount"]).ok_or(ACCOUNT_GONE)?;
    let mut extra = Vec::new();
    if let Some(id) = claims["jti"].as_str() {
        extra.push((CREDENTIAL_ID.to_owned(), format!("JTI={id}")));
    }
    for kind in [&kind::POD, &kind::NODE, &kind::SECRET] {
        let word = &kind.singular;
        let reference = &cluster[&**word];
        if reference.is_null() {
            continue;
        }
        // The node of a bound pod is told, but the token lives as long as the pod.
        let told_only = *kind == kind::NODE && !cluster["pod"].is_null();
        if !told_only && living(kind, reference).is_none() {
            return Err(BOUND_GONE);
        }
        if *kind != kind::SECRET {
            for field in ["name", "uid"] {
                let value = reference[field].as_str().unwrap_or_default().to_owned();
                extra.push((format!("authentication.kubernetes.io/{word}-{field}"), value));
            }
        }
    }
    let caller = caller_of(&account);
    Ok(caller.with_extra(extra.iter().map(|(key, value)| (key.as_str(), value.clone()))))
}

fn of_secret(view: &View, token: &str, claims: &Value) -> Result<Caller, &'static str> {
    let claim = |name: &str| claims[format!("{SECRET_CLAIM}{name}")].as_str().unwrap_or_default();
    let find = |kind, name| view.get(&ObjectKey::new(kind, claim("namespace"), claim(name)));
    let secret = find(&kind::SECRET, "secret.name").ok_or(BOUND_GONE)?;
    let data: Value = secret.parse().unwrap_or_default();
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, token);
    if secret.is_terminating() || data["data"][TOKEN_KEY] != encoded.as_str() {
        return Err(BOUND_GONE);
    }
    let account = find(&kind::SERVICE_ACCOUNT, "service-account.name").ok_or(ACCOUNT_GONE)?;
    if account.is_terminating() || account.metadata.uid != claim("service-account.uid") {
        return Err(ACCOUNT_GONE);
    }
    Ok(caller_of(account))
}

fn caller_of(account: &Object) -> Caller {
    let groups = account_groups(&account.key.namespace);
    Caller::new(&user(&account.key), &account.metadata.uid, groups)
}
