#!/bin/bash
# In the container that role.sh boots.
# shellcheck source=tests/systemd/lib.sh
. /root/lib.sh
export HOME=/root ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=False
cd /root
systemctl start libvirtd-ro.socket
mkdir roles
tar --extract --file role.tar --directory roles
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost 2>/dev/null

# play VARIABLE: VALUE...: the role with these variables; prints how many tasks have changed something
play() {
  { echo '- hosts: localhost'; echo '  connection: local'; echo '  roles:'; echo '    - role: domstats_exporter'; echo '      vars:'
    printf '        %s\n' "$@"; } >play.yml
  ansible-playbook --inventory localhost, play.yml >play.log 2>&1 || { cat play.log >&2; return 1; }
  sed -n 's/^localhost .*changed=\([0-9]*\).*/\1/p' play.log
}
changes() {
  local what=$1 first again; shift
  first=$(play "$@")
  ((first > 0)) || fail "$what: the first run changes nothing"
  again=$(play "$@")
  [ "$again" = 0 ] || { grep -B3 ^changed play.log; fail "$what: the second run changes $again"; }
  echo "# $what: $first changes, then none"
}

package='domstats_exporter_package_file: /root/domstats-exporter.deb'
changes "from the package" "$package"
is "the service" "$(systemctl is-enabled "$unit") $(property ActiveState)" "enabled active"
is "libvirt_up" "$(value libvirt_up)" 1

pid=$(property MainPID)
changes "a setting" "$package" 'domstats_exporter_config: {domains: {exclude: ["scratch-.*"]}}'
grep -q 'scratch-' "$config" || fail "the setting is not in $config"
is "the process after a reload" "$(property MainPID)" "$pid"

tls=("$package" 'domstats_exporter_tls_cert: "{{ lookup(\"file\", \"/root/cert.pem\") }}"'
  'domstats_exporter_tls_key: "{{ lookup(\"file\", \"/root/key.pem\") }}"'
  'domstats_exporter_web_config: {tls_server_config: {cert_file: server.crt, key_file: server.key}}')
changes "TLS" "${tls[@]}"
over_tls() { curl --silent --max-time 10 --cacert cert.pem https://localhost:9177/metrics | awk '$1 == "libvirt_up" { print $2 }'; }
eventually "libvirt_up over TLS" 1 over_tls
is "the key" "$(stat --format='%a %U %G' /etc/domstats-exporter/server.key)" "640 root domstats-exporter-web"

before=$(sha256sum "$config")
! play "$package" 'domstats_exporter_config: {nonsense: 1}' 2>refused.log || fail "a bad setting was taken"
grep -q nonsense refused.log || fail "it does not say what is wrong: $(tail -n 5 refused.log)"
is "the settings after it" "$(sha256sum "$config")" "$before"

dpkg --purge domstats-exporter >/dev/null
rm -rf /etc/domstats-exporter "/etc/systemd/system/$unit.d"
systemctl daemon-reload
tarball='domstats_exporter_tarball: /root/domstats-exporter.tar.gz'
changes "from the tarball" "$tarball" 'domstats_exporter_args: --web.telemetry-path=/other'
path=/other
eventually "libvirt_up at the path of the flags" 1 value libvirt_up
is "the service" "$(systemctl is-enabled "$unit") $(property ActiveState)" "enabled active"
