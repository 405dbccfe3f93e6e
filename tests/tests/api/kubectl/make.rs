//! `create`, `run`, `expose`, `autoscale`, and what `get` and `describe` make
//! of the objects.

use anyhow::{Context as _, Result};

use super::runner::Kubectl;

pub fn config_maps(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create configmap a --from-literal=x=y",
        &["configmap/a created"],
    )?;
    kubectl.prints("label configmap a tier=front", &["configmap/a labeled"])?;
    kubectl.prints(
        "annotate configmap a why=because",
        &["configmap/a annotated"],
    )?;
    kubectl.fails("label configmap a tier=back", "", &["already has a value"])?;
    kubectl.prints("label configmap a tier=back --overwrite", &["labeled"])?;
    kubectl.prints("get configmaps -l tier=back -o name", &["configmap/a"])?;
    kubectl.prints_only("get configmaps -l tier=front -o name", "", "")?;
    kubectl.prints(
        "get configmaps --field-selector metadata.name=a -o yaml",
        &["x: \"y\"", "why: because"],
    )?;
    kubectl.prints("get configmaps -A -o wide", &["NAMESPACE", "DATA", "AGE"])?;
    kubectl.prints("describe configmap a", &["x:", "tier=back"])?;
    let unknown =
        r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "strict"}, "dataa": {}}"#;
    kubectl.fails(
        "create -f -",
        unknown,
        &["strict decoding error", "unknown field \"dataa\""],
    )?;
    kubectl.prints_only(
        "create -f - --dry-run=server -o name",
        &unknown.replace("dataa", "data"),
        "configmap/strict\n",
    )?;
    kubectl.fails("get configmap strict", "", &["not found"])
}

fn web(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create deployment web --image=nginx:1 --replicas=2",
        &["deployment.apps/web created"],
    )?;
    Ok(())
}

pub fn deployments(kubectl: &Kubectl<'_>) -> Result<()> {
    web(kubectl)?;
    kubectl.prints("describe deployment web", &["2 desired", "RollingUpdate"])?;
    kubectl.prints("scale deployment web --replicas=5", &["web scaled"])?;
    kubectl.prints("get deployment web", &["0/5"])?;
    kubectl.fails(
        "scale deployment web --current-replicas=1 --replicas=9",
        "",
        &["Expected replicas to be 1"],
    )?;
    kubectl.prints("set image deployment/web nginx=nginx:2", &["image updated"])?;
    kubectl.prints("get deployment web -o wide", &["nginx:2"])?;
    Ok(())
}

pub fn services(kubectl: &Kubectl<'_>) -> Result<()> {
    web(kubectl)?;
    kubectl.prints(
        "create service clusterip web --tcp=80:8080",
        &["service/web created"],
    )?;
    kubectl.prints("get service web", &["ClusterIP", "10.", "80/TCP"])?;
    kubectl.prints(
        "expose deployment web --name=outside --port=80 --type=NodePort",
        &["service/outside exposed"],
    )?;
    let service = kubectl.json("get service outside")?;
    let port = service["spec"]["ports"][0]["nodePort"].as_u64();
    kubectl.check(
        port.is_some_and(|port| (30_000..=32_767).contains(&port)),
        "no node port",
    );
    let address = service["spec"]["clusterIP"]
        .as_str()
        .context("an address")?;
    kubectl.prints(&format!("get ipaddress {address} -o name"), &[address])?;
    kubectl.fails(
        &format!("create service clusterip twin --tcp=80 --clusterip={address}"),
        "",
        &["provided IP is already allocated"],
    )?;
    kubectl.prints("delete service outside", &["deleted"])?;
    kubectl.fails(&format!("get ipaddress {address}"), "", &["not found"])?;
    // A port of the nodes belongs to one service, whatever its namespace.
    let port = format!("3008{}", kubectl.namespace.trim_start_matches("services-"));
    kubectl.prints(
        &format!("create service nodeport np --tcp=80 --node-port={port}"),
        &["service/np created"],
    )?;
    kubectl.prints("describe service np", &["NodePort", &port])?;
    kubectl.prints(
        "create service externalname out --external-name example.org",
        &["service/out created"],
    )?;
    kubectl.prints("get service out", &["ExternalName", "example.org"])?;
    Ok(())
}

/// A kind that is served in two versions.
pub fn autoscaling(kubectl: &Kubectl<'_>) -> Result<()> {
    web(kubectl)?;
    // The newest have another flag for it.
    let help = kubectl.prints("autoscale --help", &[])?;
    let flag = if help.contains("--cpu-percent") && !help.contains("--cpu=") {
        "--cpu-percent=70"
    } else {
        "--cpu=70%"
    };
    kubectl.prints(
        &format!("autoscale deployment web --min=2 --max=4 {flag}"),
        &["autoscaled"],
    )?;
    kubectl.prints("get hpa web", &["Deployment/web", "2", "4"])?;
    let path = "{.spec.targetCPUUtilizationPercentage}";
    kubectl.prints_only(
        &format!("get horizontalpodautoscalers.v1.autoscaling web -o jsonpath={path}"),
        "",
        "70",
    )?;
    kubectl.prints(
        "patch horizontalpodautoscalers.v1.autoscaling web -p {\"spec\":{\"targetCPUUtilizationPercentage\":60}}",
        &["patched"],
    )?;
    let path = "{.spec.metrics[0].resource.target.averageUtilization}";
    kubectl.prints_only(
        &format!("get horizontalpodautoscalers.v2.autoscaling web -o jsonpath={path}"),
        "",
        "60",
    )?;
    kubectl.prints(
        "get horizontalpodautoscalers.v1.autoscaling",
        &["Deployment/web"],
    )?;
    kubectl.prints("get events.events.k8s.io", &[])?;
    kubectl.prints(
        "delete horizontalpodautoscalers.v1.autoscaling web",
        &["deleted"],
    )?;
    Ok(())
}

pub fn jobs(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create job once --image=busybox",
        &["job.batch/once created"],
    )?;
    let job = kubectl.json("get job once")?;
    kubectl.check(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"]
            == job["metadata"]["uid"],
        "the job selects nothing",
    );
    kubectl.words(
        &[
            "create",
            "cronjob",
            "c",
            "--image=busybox",
            "--schedule=*/5 * * * *",
        ],
        &["cronjob.batch/c created"],
    )?;
    kubectl.prints("describe job once", &["Completions:", "busybox"])?;
    Ok(())
}

pub fn secrets(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create secret generic s --from-literal=password=p",
        &["secret/s created"],
    )?;
    kubectl.prints_only("get secret s -o jsonpath={.data.password}", "", "cA==")?;
    kubectl.prints("describe secret s", &["Opaque", "password:  1 bytes"])?;
    Ok(())
}

pub fn other_kinds(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints(
        "create role r --verb=get --resource=pods",
        &["role.rbac.authorization.k8s.io/r created"],
    )?;
    kubectl.prints(
        "create rolebinding rb --role=r --user=u",
        &["rolebinding.rbac.authorization.k8s.io/rb created"],
    )?;
    kubectl.prints("create serviceaccount sa", &["serviceaccount/sa created"])?;
    kubectl.prints("create quota q --hard=pods=3", &["resourcequota/q created"])?;
    kubectl.prints(
        &format!("describe namespace {}", kubectl.namespace),
        &["Status:", "Active", "Resource Quotas"],
    )?;
    kubectl.prints(
        "create poddisruptionbudget pdb --selector=app=web --min-available=1",
        &["poddisruptionbudget.policy/pdb created"],
    )?;
    Ok(())
}

pub fn pods(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("run p --image=nginx", &["pod/p created"])?;
    kubectl.prints("get pods -o wide", &["p ", "0/1", "Pending", "<none>"])?;
    kubectl.prints("describe pod p", &["Image:", "nginx"])?;
    let pod = r#"{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "No"}, "spec": {"containers": []}}"#;
    kubectl.fails(
        "create -f -",
        pod,
        &[
            "is invalid",
            "metadata.name",
            "spec.containers: Required value",
        ],
    )
}

/// What `get` makes of the same objects.
pub fn forms(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("run p --image=nginx", &["pod/p created"])?;
    kubectl.prints("get pods", &["NAME", "READY", "STATUS", "RESTARTS", "AGE"])?;
    kubectl.prints("get pod p --show-labels", &["LABELS", "run=p"])?;
    kubectl.prints("get pods -L run", &["RUN"])?;
    kubectl.prints("get pod p -o yaml", &["kind: Pod", "restartPolicy: Always"])?;
    kubectl.prints_only("get pod/p -o name", "", "pod/p\n")?;
    let columns = kubectl.prints(
        "get pod p --no-headers -o custom-columns=N:.metadata.name,P:.status.phase",
        &[],
    )?;
    kubectl.check(columns.split_whitespace().eq(["p", "Pending"]), &columns);
    kubectl.prints_only(
        "get pods --field-selector status.phase=Running -o name",
        "",
        "",
    )?;
    web(kubectl)?;
    kubectl.prints(
        "create service clusterip web --tcp=80:8080",
        &["service/web created"],
    )?;
    kubectl.prints(
        "get deployments,services",
        &["deployment.apps/web", "service/web"],
    )?;
    kubectl.prints("get all", &["deployment.apps/web", "service/web", "pod/p"])?;
    for name in ["z", "x", "y"] {
        kubectl.prints(&format!("create serviceaccount {name}"), &["created"])?;
    }
    kubectl.prints_only(
        "get serviceaccounts --chunk-size=1 --sort-by=.metadata.name -o name",
        "",
        "serviceaccount/x\nserviceaccount/y\nserviceaccount/z\n",
    )
}

pub fn tokens(kubectl: &Kubectl<'_>) -> Result<()> {
    kubectl.prints("create serviceaccount sa", &["created"])?;
    kubectl.prints("create secret generic s", &["created"])?;
    kubectl.prints("run p --image=nginx", &["created"])?;
    let token = kubectl.prints("create token sa --duration=20m", &[])?;
    kubectl.check(token.trim().split('.').count() == 3, "no JSON web token");
    kubectl.fails(
        "create token sa --duration=1m",
        "",
        &["may not specify a duration less than 10 minutes"],
    )?;
    kubectl.fails("create token nobody", "", &["\"nobody\" not found"])?;
    kubectl.fails(
        "create token sa --bound-object-kind=Pod --bound-object-name=p",
        "",
        &["different serviceaccount name"],
    )?;
    let request =
        kubectl.json("create token sa --bound-object-kind=Secret --bound-object-name=s")?;
    let status = &request["status"];
    kubectl.check(
        status["token"].is_string() && status["expirationTimestamp"].is_string(),
        "no token with an end",
    );
    kubectl.prints("get --raw /openid/v1/jwks", &["\"P-256\""])?;
    Ok(())
}
