"""The look of our HTML pages: light and dark, desktop, phone and paper."""

from __future__ import annotations

from jepa.evaluation.report.charts import DARK, LIGHT, Theme


def _colour_variables(theme: Theme) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in vars(theme).items())


STYLE = (
    f":root{{{_colour_variables(LIGHT)}}}\n"
    f"@media (prefers-color-scheme: dark){{:root{{{_colour_variables(DARK)}}}}}\n"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:clamp(28px,4.6vw,42px);line-height:1.12;letter-spacing:-.02em;margin:0 0 16px}
h2{font-size:26px;letter-spacing:-.012em;line-height:1.2;margin:0 0 16px}
h3{font-size:17px;margin:32px 0 10px}
p{max-width:74ch;margin:0 0 16px}
h1,h2,p,li,figcaption,footer,.columns span{overflow-wrap:anywhere}
section{margin-top:56px;padding-top:28px;border-top:1px solid var(--grid)}
.eyebrow{font:600 13px/1 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;color:var(--accent);
 margin:0 0 14px}
.verdict{font-size:clamp(17px,2vw,20px);line-height:1.5}
nav{display:flex;flex-wrap:wrap;gap:6px 18px;font-size:14px;margin-top:20px}
a{color:var(--accent);text-underline-offset:3px;text-decoration-thickness:1px}
figure{margin:0 0 28px;min-width:0}
figcaption,.caption{color:var(--muted);font-size:14px;line-height:1.5;max-width:82ch;
 margin:10px 0 0}
img{display:block;max-width:100%;height:auto}
.pixelated{image-rendering:pixelated}
.failed{border:2px solid var(--bad);border-left-width:10px;border-radius:6px;padding:14px 18px;
 margin:0 0 22px;background:color-mix(in srgb,var(--bad) 9%,var(--paper))}
.failed p{margin:0 0 6px}
.failed strong{color:var(--bad)}
.failed ul{margin:0;padding-left:20px}
.missing{color:var(--muted);font-style:italic}
.bars{display:grid;gap:10px}
.bar{display:grid;grid-template-columns:minmax(170px,262px) 1fr 128px;gap:4px 14px;
 align-items:center}
.measured .bar{grid-template-columns:minmax(170px,262px) 1fr 190px}
.scroll+figure{margin-top:18px}
.track{position:relative;display:block;height:22px;border-radius:3px;
 background:color-mix(in srgb,var(--grid) 55%,transparent)}
.rates .track{background-image:linear-gradient(to right,var(--grid) 1px,transparent 1px);
 background-size:25% 100%}
.fill{position:absolute;inset:0 auto 0 0;border-radius:3px;
 background:color-mix(in srgb,var(--muted) 55%,var(--paper))}
.ours .fill,.plain .fill{background:var(--accent)}
.ours .name{font-weight:700}
.whisker{position:absolute;top:50%;height:2px;margin-top:-1px;background:var(--ink)}
.whisker::before,.whisker::after{content:"";position:absolute;top:-4px;width:2px;height:10px;
 background:var(--ink)}
.whisker::before{left:0}
.whisker::after{right:0}
.value{font-variant-numeric:tabular-nums;white-space:nowrap}
small{color:var(--muted);font-size:13px}
.axis{font-size:12px;color:var(--muted);line-height:1}
.ticks{display:flex;justify-content:space-between}
.ticks span{width:0;white-space:nowrap;display:flex;justify-content:center}
.ticks span:last-child{justify-content:flex-end}
.grid{display:grid;gap:18px 22px;align-items:start}
.small{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
.full{max-width:760px}
.full img{width:100%}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr))}
.strips{display:grid;gap:12px}
.strip span{display:block;font-size:13px;color:var(--muted);margin-bottom:4px}
.beside{display:grid;grid-template-columns:192px minmax(0,1fr);gap:28px;align-items:start}
.pair{display:grid;gap:12px}
.frame{margin:0}
.frame figcaption{margin-top:4px;font-size:13px}
.episodes{display:grid;gap:22px;
 grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr))}
.episodes figure{margin:0}
.episodes figcaption{color:var(--ink)}
.tag{display:inline-block;border-radius:4px;padding:0 7px;font-size:13px;white-space:nowrap;
 border:1px solid currentColor}
.tag.success{color:var(--good)}
.tag.failure{color:var(--bad)}
.scroll{overflow-x:auto;margin-bottom:8px}
table{border-collapse:collapse;font-size:15px;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 22px 7px 0;border-bottom:1px solid var(--grid);
 vertical-align:top}
thead th{color:var(--muted);font-weight:600;font-size:13px}
tbody th{font-weight:500}
pre{overflow-x:auto;padding:14px 16px;border-radius:6px;font-size:13.5px;line-height:1.6;
 background:color-mix(in srgb,var(--grid) 45%,var(--paper))}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
details{margin-top:14px}
details>*:not(summary){margin-top:10px}
summary{cursor:pointer;color:var(--accent)}
footer{margin-top:56px;color:var(--muted);font-size:13px}
.measures{display:grid;gap:10px 22px;margin:0 0 22px;padding:0;list-style:none;
 grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
.measures li{border-left:4px solid var(--muted);padding:2px 0 2px 12px}
.measures .success{border-color:var(--good)}
.measures .failure{border-color:var(--bad)}
.player{--columns:3}
.player .controls{display:none;gap:12px;align-items:center;margin:10px 0 0;max-width:760px}
.player.live .controls{display:flex}
.player input{flex:1;min-width:0;accent-color:var(--accent)}
.player button{font:inherit;font-size:14px;color:var(--accent);background:none;cursor:pointer;
 border:1px solid currentColor;border-radius:4px;padding:2px 10px;min-width:64px}
.player output{font-variant-numeric:tabular-nums;font-size:14px;color:var(--muted);
 min-width:108px}
.player .step{display:grid;grid-template-columns:repeat(var(--columns),minmax(0,1fr));gap:8px;
 max-width:760px;margin:0 0 8px}
.player .step img,.queries img{width:100%;height:auto}
.player.live .step[hidden]{display:none}
.columns{display:grid;grid-template-columns:repeat(var(--columns),minmax(0,1fr));gap:8px;
 max-width:760px;font-size:13px;color:var(--muted);margin:0 0 4px;line-height:1.3}
.queries{display:grid;gap:18px;margin-top:20px}
.query{display:grid;grid-template-columns:repeat(8,minmax(0,1fr));gap:6px}
.query figure{margin:0}
.query figcaption{margin-top:3px;font-size:12px;line-height:1.25}
.query .right img{outline:3px solid var(--good);outline-offset:-3px}
.rows{display:grid;gap:6px;min-width:0}
.row{display:grid;grid-template-columns:minmax(90px,150px) 1fr;gap:10px;align-items:center;
 font-size:13px;color:var(--muted)}
.row .cells{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(0,1fr);gap:4px}
.row img{width:100%;height:auto}
@media (max-width:640px){
main{padding:24px 16px 48px}
section{margin-top:40px;padding-top:22px}
.bar,.measured .bar{grid-template-columns:1fr auto}
.bar .track,.bar .ticks{grid-column:1/-1;grid-row:2}
.axis span:empty{display:none}
.beside{grid-template-columns:1fr}
.pair{grid-template-columns:repeat(2,minmax(0,150px))}
th,td{padding-right:14px}
table{font-size:14px}
.row{grid-template-columns:1fr;gap:2px}
.query{grid-template-columns:repeat(5,minmax(0,1fr))}
.query figure:nth-child(6){grid-column:3}
}
@media print{
:root{--paper:#fff}
body{font-size:11pt}
main{max-width:none;padding:0}
section{margin-top:24px;padding-top:14px}
h2,h3{break-after:avoid}
figure,table,.query{break-inside:avoid}
.player.live .controls,nav{display:none}
.scroll{overflow:visible}
}
"""
)
