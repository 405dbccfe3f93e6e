//! What a request is counted as. Knows routes, methods and the words of
//! upstream's metrics.

use http::Method;

use super::route::{Query, Route};
use crate::{kind::Sub, metrics::Labels, registry::Target};

/// The labels of a request. `route` and `query` are `None` when they are
/// malformed or name nothing.
pub fn of(route: Option<&Route>, query: Option<&Query>, method: &Method) -> Labels {
    let watch = query.is_some_and(Query::asks_to_watch);
    let dry_run = if query.is_some_and(|query| query.all("dryRun").any(|one| one == "All")) {
        "All"
    } else {
        ""
    };
    let verb = verb(method);
    match route {
        Some(Route::Object(target)) => {
            let collection = target.name.is_empty();
            let verb = match verb {
                "GET" if collection && watch => "WATCH",
                "GET" if collection => "LIST",
                "DELETE" if collection => "DELETECOLLECTION",
                verb => verb,
            };
            object(target, verb, dry_run)
        }
        Some(Route::Watch(target)) => {
            let verb = if verb == "GET" { "WATCH" } else { verb };
            object(target, verb, dry_run)
        }
        Some(route) => Labels {
            subresource: path(route),
            verb,
            dry_run,
            ..Labels::default()
        },
        None => Labels {
            verb,
            ..Labels::default()
        },
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET | Method::HEAD => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn object(target: &Target, verb: &'static str, dry_run: &'static str) -> Labels {
    Labels {
        group: target.resource.group.clone(),
        version: target.resource.version.clone(),
        resource: target.resource.plural.clone(),
        subresource: target.sub.map_or("", Sub::name),
        scope: if !target.name.is_empty() {
            "resource"
        } else if !target.namespace.is_empty() {
            "namespace"
        } else {
            "cluster"
        },
        verb,
        dry_run,
    }
}

fn path(route: &Route) -> &'static str {
    match route {
        Route::Root => "/",
        Route::Version => "/version",
        Route::Health => "/healthz",
        Route::Metrics => "/metrics",
        Route::OpenId => "/.well-known/openid-configuration",
        Route::Keys => "/openid/v1/jwks",
        Route::CoreVersions => "/api",
        Route::Groups | Route::Group(_) | Route::Resources(..) => "/apis",
        Route::OpenApiV2 => "/openapi/v2",
        Route::OpenApi | Route::OpenApiOf(_) => "/openapi/v3",
        Route::Review(..) => "/review",
        Route::Object(_) | Route::Watch(_) | Route::Beyond(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::route::route, *};

    #[test]
    fn requests_are_labelled_as_upstream_does() {
        let catalog = crate::kinds::built_in();
        for (method, path, query, expected) in [
            (Method::GET, "/api/v1/pods", "", "v1 pods  cluster LIST "),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods",
                "watch=1",
                "v1 pods  namespace WATCH ",
            ),
            (
                Method::GET,
                "/api/v1/watch/pods",
                "",
                "v1 pods  cluster WATCH ",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/b",
                "",
                "v1 pods  resource GET ",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/a/pods/b/status",
                "dryRun=All",
                "v1 pods status resource PUT All",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/a/pods",
                "",
                "v1 pods  namespace DELETECOLLECTION ",
            ),
            (Method::GET, "/healthz", "", "  /healthz  GET "),
            (Method::TRACE, "/nothing", "", "    other "),
        ] {
            let query = Query::parse(query);
            let labels = of(route(&catalog, path).as_ref(), query.as_ref(), &method);
            let text = format!(
                "{} {} {} {} {} {}",
                labels.version,
                labels.resource,
                labels.subresource,
                labels.scope,
                labels.verb,
                labels.dry_run
            );
            assert_eq!(text, expected, "{method} {path}");
        }
    }
}
