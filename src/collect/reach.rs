//! Names are looked up here where HTTP is spoken, so that no name leads to an address that is out of reach.

use std::io;

use outrider_protocol::collect::Reach;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks names up, and answers with what is within reach.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolver(pub(crate) Reach);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let all: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let within: Vec<_> = all.iter().copied().filter(|it| reach.allows(it.ip())).collect();
            if within.is_empty() && !all.is_empty() {
                let why = format!(
                    "{} leads to link-local addresses or a cloud's metadata alone, where nothing is asked that a backend ordered",
                    name.as_str()
                );
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why).into());
            }
            Ok::<Addrs, _>(Box::new(within.into_iter()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_leads_to_what_is_within_reach_alone() {
        // A literal is looked up as a name is, which stands in for a name server that a stranger has.
        let found = |name: &'static str, reach| async move {
            let all = Resolver(reach).resolve(name.parse().unwrap()).await;
            all.map(|it| it.map(|it| it.ip().to_string()).collect::<Vec<_>>()).map_err(|it| it.to_string())
        };
        let refused = found("169.254.169.254", Reach::NoMetadata).await.unwrap_err();
        assert!(refused.contains("169.254.169.254 leads to link-local"), "{refused}");
        assert_eq!(found("169.254.169.254", Reach::Anywhere).await.unwrap(), ["169.254.169.254"]);
        assert_eq!(found("127.0.0.1", Reach::NoMetadata).await.unwrap(), ["127.0.0.1"]);
    }
}
