//! The tree of operations that one gave rise to.

use serde_json::Value;

use crate::support::gateway::order;
use crate::support::{Gateway, Setup, Ticket, Upstream, get};

/// A parent and a child, accepted one behind the other.
async fn parent_and_child(gateway: &Gateway, who: &str) -> (Ticket, Ticket) {
    let of = || order().field("Operation-Delay", "60").field("Authorization", who);
    let parent = gateway.accept(of()).await;
    let child = gateway.accept(of().field("Operation-Parent", &*parent.id)).await;
    (parent, child)
}

async fn tree(gateway: &Gateway, ticket: &Ticket, who: &str) -> (String, Value) {
    let answer = gateway.send(get(ticket.at("tree")).field("Authorization", who)).await.expect(200);
    (answer.text(), answer.json())
}

#[tokio::test]
async fn where_only_tickets_protect_a_childs_ticket_is_not_handed_out() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).shared(false).start().await;
    let (parent, child) = parent_and_child(&gateway, "ann").await;
    let (text, tree) = tree(&gateway, &parent, "ann").await;
    let segment = child.monitor.rsplit('/').next().unwrap();
    assert!(!text.contains(segment), "{text}");
    let shown = &tree["operations"][0];
    assert_eq!((&shown["id"], &shown["status"]), (&Value::from(&*child.id), &"queued".into()));
    assert_eq!(shown["parent"], &*parent.id);
    for member in ["links", "request", "tags", "clientReference", "resourceLocation", "error"] {
        assert_eq!(shown.get(member), None, "{member}");
    }
    assert_eq!(
        tree["operation"]["links"]["monitor"],
        format!("{}{}", gateway.origin(), parent.monitor)
    );
    let all = gateway.admin(get(format!("/-/operations/{}/tree", parent.id))).await.expect(200);
    assert!(all.text().contains(segment), "operators see everything");
}

#[tokio::test]
async fn those_who_may_list_operations_see_their_documents_in_it() {
    for principal in ["none", "authorization"] {
        let upstream = Upstream::start().await;
        let setup = Setup::before(&upstream);
        let setup = if principal == "none" { setup } else { setup.principal(principal) };
        let gateway = setup.start().await;
        let (parent, child) = parent_and_child(&gateway, "ann").await;
        let (_, tree) = tree(&gateway, &parent, "ann").await;
        let monitor = format!("{}{}", gateway.origin(), child.monitor);
        assert_eq!(tree["operations"][0]["links"]["monitor"], monitor, "{principal}");
    }
}

#[tokio::test]
async fn a_child_of_another_principal_belongs_to_no_tree() {
    let upstream = Upstream::start().await;
    let gateway = Setup::before(&upstream).principal("authorization").start().await;
    let (parent, _) = parent_and_child(&gateway, "ann").await;
    let foreign = order().field("Authorization", "bob").field("Operation-Parent", &*parent.id);
    gateway.accept(foreign.field("Operation-Delay", "60")).await;
    let (_, tree) = tree(&gateway, &parent, "ann").await;
    assert_eq!(tree["operations"].as_array().unwrap().len(), 1, "{tree}");
}
