"""Look up every pinned package among the known vulnerabilities: `make audit`.

Asks by pip-audit. Exit status 1 when a package has any, or when pip-audit fails. Where the list
can't be reached, it says so, with status 0.
"""

import json
import subprocess
import sys

from fashion.errors import reported

COMMAND = [
    "pip_audit",
    "--requirement=requirements.txt",
    "--require-hashes",
    "--disable-pip",
    "--progress-spinner=off",
]


def main() -> int:
    result = subprocess.run(
        [sys.executable, "-m", *COMMAND, "--format=json"],
        capture_output=True,
        text=True,
        check=False,
    )
    status, text = verdict(result.stdout, result.stderr)
    print(text)
    return status


def verdict(output: str, errors: str) -> tuple[int, str]:
    """Exit status and message for what pip-audit printed as JSON; see its README for the format."""
    try:
        packages = json.loads(output)["dependencies"]
    except ValueError:
        reason = (errors.strip().splitlines() or ["it says nothing"])[-1]
        if "connect" in reason.lower():
            return 0, f"audit: nothing was looked up, as the list can't be reached: {reason}"
        return 1, f"audit: pip-audit failed: {reason}"
    found = [package for package in packages if package.get("vulns")]
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return (
            0,
            "audit: nothing was looked up,"
            f" as the list within reach has none of the {len(packages)} packages",
        )
    lines = [
        f"audit: {len(packages) - len(skipped)} packages looked up,"
        f" {len(found)} with known vulnerabilities"
    ]
    lines += [f"  not in the list: {', '.join(skipped)}"] if skipped else []
    for package in found:
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no version yet"
            lines.append(
                f"  {package['name']} {package['version']}: {one['id']}, mended in {fixed}"
            )
    return bool(found), "\n".join(lines)


if __name__ == "__main__":
    with reported("audit"):
        sys.exit(main())
