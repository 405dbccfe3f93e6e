//! `/status`: what a person is told of a cluster, as text and in a browser.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, ConnectOptions};
use mizzen_tests::cluster::{self, Cluster, Options};
use mizzen_tests::pages;
use mizzen_tests::skip::{self, Why};

/// In which a loss is noticed, on a machine with other things to do.
const NOTICED: Duration = Duration::from_secs(30);

async fn page(cluster: &Cluster, member: usize) -> Result<String> {
    let page = pages::get(cluster.endpoint(member), "/status").await?;
    ensure!(page.code == 200, "{page:?}");
    Ok(page.body)
}

/// The page once it tells of `what`.
async fn until(cluster: &Cluster, member: usize, what: &str) -> Result<String> {
    let begun = Instant::now();
    loop {
        let text = page(cluster, member).await?;
        if text.contains(what) {
            return Ok(text);
        }
        ensure!(begun.elapsed() < NOTICED, "no {what:?} in\n{text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_person_sees_who_leads_and_who_is_lost() -> Result<()> {
    Cluster::run(Options::new(cluster::mizzen()?), async |cluster| {
        let leader = cluster.leader().await?;
        let options = ConnectOptions::new().with_timeout(Duration::from_secs(10));
        let mut client = Client::connect([cluster.endpoint(leader)], Some(options)).await?;
        client.put("k", "v", None).await?;
        let refused = client.put("", "v", None).await;
        ensure!(refused.is_err(), "a put without a key: {refused:?}");
        let all = until(cluster, leader, "3 of 3 members are up").await?;
        ensure!(all.contains("This member leads"), "{all}");
        ensure!(
            all.contains("etcdserverpb.KV/Put: InvalidArgument"),
            "{all}"
        );
        ensure!(!all.contains("class=bad"), "all is well, and yet\n{all}");
        let gone = (leader + 1) % 3;
        cluster.kill(gone)?;
        let less = until(cluster, leader, "2 of 3 members are up").await?;
        let row = less
            .lines()
            .find(|line| line.contains(&format!("<td>{}</td>", cluster.name(gone))))
            .with_context(|| format!("no row of the lost member in\n{less}"))?;
        ensure!(row.contains("class=bad>not reached"), "{row}");
        let other = until(cluster, (leader + 2) % 3, "2 of 3 members are up").await?;
        let leads = format!("{} leads", cluster.name(leader));
        ensure!(other.contains(&leads), "no {leads:?} in\n{other}");
        let posted = pages::request(cluster.endpoint(leader), "POST", "/status").await?;
        ensure!(posted.code == 405, "{posted:?}");
        in_a_browser(&format!("http://{}/status", cluster.endpoint(leader)), row)
    })
    .await
}

/// Chromium shows the same row, in light and in dark colours.
fn in_a_browser(url: &str, row: &str) -> Result<()> {
    let names = ["chromium-headless-shell", "chromium", "chromium-browser"];
    let Some(browser) = names
        .iter()
        .flat_map(|name| cluster::find_tool(name))
        .next()
    else {
        return Ok(skip::part("the browser", &Why::program("chromium"))?);
    };
    let directory = tempfile::tempdir()?;
    let run = |arguments: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new(&browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--window-size=1200,1400",
            ])
            .args(arguments)
            .arg(url)
            .env("HOME", directory.path())
            .current_dir(directory.path())
            .stderr(Stdio::null())
            .output()?;
        ensure!(
            output.status.success(),
            "{browser:?} {arguments:?}: {}",
            output.status
        );
        Ok(output.stdout)
    };
    let shown = String::from_utf8(run(&["--dump-dom"])?)?;
    // The browser puts quotes where the page has none, and the rest is the same.
    let cells = row
        .replace("class=bad", "class=\"bad\"")
        .replace("class=good", "class=\"good\"");
    let cells = cells.replace("class=n", "class=\"n\"");
    ensure!(shown.contains(&cells), "no {cells:?} in\n{shown}");
    let picture = |colours: &str| -> Result<Vec<u8>> {
        run(&["--screenshot=page.png", colours])?;
        Ok(std::fs::read(directory.path().join("page.png"))?)
    };
    let dark = picture("--blink-settings=preferredColorScheme=0")?;
    let light = picture("--blink-settings=preferredColorScheme=1")?;
    if let Some(keep) = std::env::var_os("MIZZEN_STATUS_PICTURES") {
        std::fs::write(std::path::Path::new(&keep).join("dark.png"), &dark)?;
        std::fs::write(std::path::Path::new(&keep).join("light.png"), &light)?;
    }
    ensure!(dark != light, "dark is as light");
    Ok(())
}
